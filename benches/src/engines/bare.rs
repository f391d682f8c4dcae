//! The yardstick: one file, one write and one `fdatasync` per group, checksums, no more.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Outcome, Setup, embedded};

/// Runs it; `zeros_mib` of the file are filled beforehand, so that a sync writes no metadata.
pub fn run(setup: &Setup, zeros_mib: u64) -> Outcome {
    let path = setup.dir.join("file");
    let mut file = OpenOptions::new()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&path)?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..zeros_mib {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    let places = Places::default();
    let reader = Reader {
        file: File::open(&path)?,
        places: places.clone(),
        buffer: Vec::new(),
    };
    let writer = Writer {
        file,
        end: 0,
        buffer: Vec::new(),
        places,
        synced: setup.synced,
    };
    embedded::run(setup, writer, reader)
}

/// Where each event begins.
type Places = Arc<Mutex<Vec<u64>>>;

/// Length and checksum.
const HEAD_BYTES: usize = 8;

struct Writer {
    file: File,
    end: u64,
    buffer: Vec<u8>,
    places: Places,
    synced: bool,
}

impl Writer {
    fn put(&mut self, body: &[u8]) {
        let length = u32::try_from(body.len()).unwrap_or(0);
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer
            .extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
        self.buffer.extend_from_slice(body);
    }
}

impl embedded::Write for Writer {
    fn commit(&mut self, _first: u64, events: &[Vec<u8>], position: Option<u64>) {
        self.buffer.clear();
        let mut places = Vec::with_capacity(events.len());
        for body in events {
            places.push(self.end + self.buffer.len() as u64);
            self.put(body);
        }
        if let Some(position) = position {
            self.put(&position.to_le_bytes());
        }
        self.file
            .write_all_at(&self.buffer, self.end)
            .expect("it writes");
        if self.synced {
            self.file.sync_data().expect("it syncs");
        }
        self.end += self.buffer.len() as u64;
        self.places.lock().extend(places);
    }
}

struct Reader {
    file: File,
    places: Places,
    buffer: Vec<u8>,
}

impl embedded::Read for Reader {
    fn read(&mut self, from: u64, to: u64, visit: &mut dyn FnMut(&[u8])) {
        let at = |number: u64| usize::try_from(number).expect("a number");
        let (begin, last) = {
            let places = self.places.lock();
            (places[at(from)], places[at(to - 1)])
        };
        let bytes = at(last - begin) + HEAD_BYTES + crate::flow::BODY_BYTES;
        self.buffer.resize(bytes, 0);
        self.file
            .read_exact_at(&mut self.buffer, begin)
            .expect("it reads");
        let mut rest = &self.buffer[..];
        while rest.len() >= HEAD_BYTES {
            let length = u32::from_le_bytes(rest[..4].try_into().expect("four")) as usize;
            let sum = u32::from_le_bytes(rest[4..8].try_into().expect("four"));
            let body = &rest[HEAD_BYTES..HEAD_BYTES + length];
            assert_eq!(crc32c::crc32c(body), sum, "the file is damaged");
            if length == crate::flow::BODY_BYTES {
                visit(body);
            }
            rest = &rest[HEAD_BYTES + length..];
        }
    }
}
