-- How the order comes to its end: choreography or orchestration.
ALTER TABLE orders ADD COLUMN flow TEXT NOT NULL DEFAULT 'choreography';
