//! Who is connected to a namespace, and in which rooms.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytestring::ByteString;
use parking_lot::RwLock;

use crate::presence::Told;
use crate::socket::Inner;

/// Whom something is sent to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    /// Everybody, if none is named; each at most once.
    pub(crate) rooms: Vec<ByteString>,
    /// But not this one.
    pub(crate) except: Option<ByteString>,
}

impl Target {
    /// Whether somebody in these rooms is meant.
    pub(crate) fn meets(&self, id: &ByteString, rooms: &BTreeSet<ByteString>) -> bool {
        let is_in = |room: &ByteString| room == id || rooms.contains(room);
        self.except.as_ref() != Some(id) && (self.rooms.is_empty() || self.rooms.iter().any(is_in))
    }

    /// Whether it is for a room, and not meant to leave this one of it out.
    pub(crate) fn names(&self, id: &ByteString, room: &ByteString) -> bool {
        self.except.as_ref() != Some(id) && self.rooms.contains(room)
    }
}

#[derive(Default)]
struct Tables {
    sockets: HashMap<ByteString, Arc<Inner>>,
    rooms: HashMap<ByteString, HashMap<ByteString, Arc<Inner>>>,
    of: HashMap<ByteString, BTreeSet<ByteString>>,
}

#[derive(Default)]
pub(crate) struct Rooms {
    tables: RwLock<Tables>,
    /// Other nodes are told who comes and goes.
    pub(crate) told: Told,
}

impl Rooms {
    pub(crate) fn add(&self, socket: Arc<Inner>, rooms: &BTreeSet<ByteString>) {
        let mut tables = self.tables.write();
        let id = socket.id.clone();
        for room in rooms {
            let members = tables.rooms.entry(room.clone()).or_default();
            members.insert(id.clone(), socket.clone());
        }
        tables.of.insert(id.clone(), rooms.clone());
        tables.sockets.insert(id.clone(), socket.clone());
        drop(tables);
        self.told.changed(&socket.space.name, &id);
    }

    /// Takes a socket out of everything; the rooms in which it was. None if it was not there any more.
    pub(crate) fn remove(&self, id: &str) -> Option<BTreeSet<ByteString>> {
        let mut tables = self.tables.write();
        let socket = tables.sockets.remove(id)?;
        let rooms = tables.of.remove(id).unwrap_or_default();
        for room in &rooms {
            leave(&mut tables.rooms, room, id);
        }
        drop(tables);
        self.told.changed(&socket.space.name, &socket.id);
        Some(rooms)
    }

    /// Puts a socket into a room. Whether it is there now: it may be gone, or in as many rooms as it may be.
    pub(crate) fn join(&self, id: &str, room: &ByteString, rooms_max: usize) -> bool {
        let mut tables = self.tables.write();
        let Some(socket) = tables.sockets.get(id).cloned() else {
            return false;
        };
        let of = tables.of.entry(socket.id.clone()).or_default();
        if !of.contains(room) && of.len() >= rooms_max {
            return false;
        }
        of.insert(room.clone());
        let members = tables.rooms.entry(room.clone()).or_default();
        members.insert(socket.id.clone(), socket.clone());
        drop(tables);
        self.told.changed(&socket.space.name, &socket.id);
        true
    }

    pub(crate) fn leave(&self, id: &str, room: &str) {
        let mut tables = self.tables.write();
        if let Some(of) = tables.of.get_mut(id) {
            of.remove(room);
        }
        leave(&mut tables.rooms, room, id);
        let socket = tables.sockets.get(id).cloned();
        drop(tables);
        if let Some(socket) = socket {
            self.told.changed(&socket.space.name, &socket.id);
        }
    }

    /// Somebody, with the rooms in which they are.
    pub(crate) fn get(&self, id: &str) -> Option<(Arc<Inner>, BTreeSet<ByteString>)> {
        let tables = self.tables.read();
        let socket = tables.sockets.get(id)?.clone();
        Some((socket, tables.of.get(id).cloned().unwrap_or_default()))
    }

    /// Everybody.
    pub(crate) fn ids(&self) -> Vec<ByteString> {
        self.tables.read().sockets.keys().cloned().collect()
    }

    pub(crate) fn is_in(&self, id: &str, room: &str) -> bool {
        let tables = self.tables.read();
        tables.of.get(id).is_some_and(|rooms| rooms.contains(room))
    }

    pub(crate) fn of(&self, id: &str) -> BTreeSet<ByteString> {
        self.tables.read().of.get(id).cloned().unwrap_or_default()
    }

    /// Everybody who is meant, once each.
    pub(crate) fn each(&self, target: &Target, mut then: impl FnMut(&Arc<Inner>)) {
        let tables = self.tables.read();
        let mut to = |socket: &Arc<Inner>| {
            if target.except.as_ref() != Some(&socket.id) {
                then(socket);
            }
        };
        match &*target.rooms {
            [] => tables.sockets.values().for_each(to),
            [room] => {
                if let Some(members) = tables.rooms.get(room) {
                    members.values().for_each(to);
                } else if let Some(socket) = tables.sockets.get(room) {
                    // Everybody has a room of their own, by their id.
                    to(socket);
                }
            }
            rooms => {
                let mut met = BTreeSet::new();
                for room in rooms {
                    let alone = tables.sockets.get(room).into_iter();
                    let members = tables.rooms.get(room).into_iter().flat_map(HashMap::values);
                    for socket in alone.chain(members) {
                        if met.insert(socket.id.clone()) {
                            to(socket);
                        }
                    }
                }
            }
        }
    }
}

fn leave(rooms: &mut HashMap<ByteString, HashMap<ByteString, Arc<Inner>>>, room: &str, id: &str) {
    if let Some(members) = rooms.get_mut(room) {
        members.remove(id);
        if members.is_empty() {
            rooms.remove(room);
        }
    }
}
