//! The files by which mosquitto knows its devices: a password for each, and topics of its own for each.

use std::fmt::Write;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha512;
use trunkline_core::{Env, Error, Result};

use crate::pattern::is_name;
use crate::{Declared, Pattern};

/// Rounds of the hash: what mosquitto 2 itself uses. Passwords of devices are long and random, so that they can't be
/// guessed at whatever speed.
const ROUNDS: NonZeroU32 = NonZeroU32::new(101).unwrap();
const SALT_BYTES: usize = 12;
const HASH_BYTES: usize = 64;

/// A user of the broker.
#[derive(Clone)]
pub struct Credential {
    /// The name: a device's own, or the gateway's.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Credential {
    /// A new password of 160 random bits for a user.
    pub fn generate(user: impl Into<String>, env: &Env) -> Self {
        let mut bytes = [0; 20];
        env.random_bytes(&mut bytes);
        Self {
            user: user.into(),
            password: base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes),
        }
    }

    /// The user's line of a `password_file`, which may be kept: the password can't be told from it.
    ///
    /// # Errors
    /// `InvalidInput` for a name that [`is_name`] refuses.
    ///
    /// # Source
    /// `$7$rounds$salt$hash`: PBKDF2 (RFC 8018) with HMAC-SHA-512, as `mosquitto_passwd` writes it.
    pub fn line(&self, env: &Env) -> Result<String> {
        check_name(&self.user)?;
        let mut salt = [0; SALT_BYTES];
        env.random_bytes(&mut salt);
        let hash = pbkdf2(self.password.as_bytes(), &salt, ROUNDS);
        let (salt, hash) = (STANDARD.encode(salt), STANDARD.encode(hash));
        Ok(format!("{}:$7${ROUNDS}${salt}${hash}", self.user))
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The `password_file` of mosquitto: each password as a salted hash.
///
/// # Errors
/// `InvalidInput` for a name that [`is_name`] refuses, or the same name twice.
pub fn password_file(users: &[Credential], env: &Env) -> Result<String> {
    let mut names: Vec<&str> = users.iter().map(|user| user.user.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair.first() == pair.last());
    if let Some(name) = twice.and_then(|pair| pair.first()) {
        let text = "two users of the broker have the same name";
        return Err(Error::invalid("device_name_twice", text).with("name", name));
    }
    let mut text = String::new();
    for user in users {
        writeln!(text, "{}", user.line(env)?).expect("a String can be written to");
    }
    Ok(text)
}

/// The `acl_file` of mosquitto: the gateway reads and writes all that is declared, and a device, whose user is its name,
/// nothing but its own topics. A topic with more captures than the device leaves the others free.
///
/// # Errors
/// As [`Declared::check`]; `InvalidInput` for a gateway's name that [`is_name`] refuses.
pub fn acl_file(declared: &Declared, gateway: &str) -> Result<String> {
    declared.check()?;
    check_name(gateway)?;
    let mut own: Vec<(&str, String)> = Vec::new();
    let mut gateways: Vec<(&str, String)> = Vec::new();
    for report in &declared.reports {
        gateways.push(("read", report.pattern.filter()));
        own.push(("write", of_user(&report.pattern, report.place)));
    }
    if let Some(presence) = &declared.presence {
        gateways.push(("read", presence.filter()));
        own.push(("write", of_user(presence, 0)));
    }
    if let Some(topics) = &declared.commands {
        gateways.push(("write", topics.commands.filter()));
        own.push(("read", of_user(&topics.commands, 0)));
        gateways.push(("read", topics.replies.filter()));
        own.push(("write", of_user(&topics.replies, 0)));
    }
    let line = |kind: &str, (access, topic): (&str, String)| format!("{kind} {access} {topic}\n");
    let mut text = String::new();
    text.extend(own.into_iter().map(|rule| line("pattern", rule)));
    text.push_str(&format!("\nuser {gateway}\n"));
    text.extend(gateways.into_iter().map(|rule| line("topic", rule)));
    Ok(text)
}

/// The settings that the gateway's guarantees need of mosquitto 2, after its one listener: nobody without a password, nobody
/// in another's session (the name of a session is the user's, whatever the client says), what is not delivered is kept on
/// disk once a second, as many messages are kept as there is room for, and large ones are refused at the door.
///
/// Not with each change (`autosave_on_changes`): mosquitto writes all that it has each time, and with 10,000 retained states
/// it does nothing else.
pub fn settings(packet_bytes_max: u32) -> String {
    format!(
        "allow_anonymous false\n\
         use_username_as_clientid true\n\
         persistence true\n\
         autosave_interval 1\n\
         max_queued_messages 0\n\
         max_packet_size {packet_bytes_max}\n"
    )
}

/// A pattern with the device's capture as mosquitto's `%u`, its user.
fn of_user(pattern: &Pattern, device: usize) -> String {
    let mut place = 0..;
    let levels = pattern.as_str().split('/').map(|level| {
        if !level.starts_with('{') {
            level
        } else if place.next() == Some(device) {
            "%u"
        } else {
            "+"
        }
    });
    levels.collect::<Vec<_>>().join("/")
}

fn check_name(name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    let text = "expected a name of 1 to 64 letters, digits, `.`, `_`, `:` and `-`";
    Err(Error::invalid("device_name_invalid", text).with("name", name))
}

/// The first block of PBKDF2, which is as long as the hash.
fn pbkdf2(password: &[u8], salt: &[u8], rounds: NonZeroU32) -> [u8; HASH_BYTES] {
    let keyed = Hmac::<Sha512>::new_from_slice(password).expect("a key of any length will do");
    let once = |text: &[&[u8]]| -> [u8; HASH_BYTES] {
        let mut hash = keyed.clone();
        text.iter().for_each(|part| hash.update(part));
        hash.finalize().into_bytes().into()
    };
    let mut last = once(&[salt, &1_u32.to_be_bytes()]);
    let mut sum = last;
    for _ in 1..rounds.get() {
        last = once(&[&last]);
        sum.iter_mut()
            .zip(last)
            .for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CommandTopics;

    #[test]
    fn a_hash_is_that_of_the_standard() {
        // Known from other implementations: PBKDF2-HMAC-SHA-512 of "password" and "salt".
        let one = pbkdf2(b"password", b"salt", NonZeroU32::MIN);
        assert_eq!(one[..8], [0x86, 0x7f, 0x70, 0xcf, 0x1a, 0xde, 0x02, 0xcf]);
        let two = pbkdf2(b"password", b"salt", NonZeroU32::new(2).unwrap());
        assert_eq!(two[..8], [0xe1, 0xd9, 0xc1, 0x6a, 0xa6, 0x81, 0x70, 0x8a]);
    }

    #[test]
    fn no_name_can_add_a_line() {
        let env = Env::seeded(1);
        let user = |name: &str| Credential::generate(name, &env);
        let file = password_file(&[user("m1"), user("m2")], &env).unwrap();
        assert_eq!(file.lines().count(), 2);
        assert!(file.starts_with("m1:$7$101$"), "{file}");
        for name in ["m1\nroot", "m:1 ", "", "#", "a/b", "m\u{e9}"] {
            assert!(password_file(&[user(name)], &env).is_err(), "{name}");
        }
        assert!(password_file(&[user("m1"), user("m1")], &env).is_err());
        assert!(acl_file(&Declared::default(), "gate\ntopic #").is_err());
    }

    #[test]
    fn a_device_has_its_own_topics_and_no_others() {
        let declared = Declared {
            presence: Some(Pattern::new("vending/{machine_id}/presence").unwrap()),
            commands: Some(
                CommandTopics::new("vending/{m}/commands", "vending/{m}/replies").unwrap(),
            ),
            ..Declared::default()
        };
        let file = acl_file(&declared, "gateway").unwrap();
        let wanted = "pattern write vending/%u/presence\npattern read vending/%u/commands\n\
                      pattern write vending/%u/replies\n\nuser gateway\ntopic read vending/+/presence\n\
                      topic write vending/+/commands\ntopic read vending/+/replies\n";
        assert_eq!(file, wanted);
        let pattern = Pattern::new("shops/{shop}/vending/{machine}/status").unwrap();
        assert_eq!(of_user(&pattern, 1), "shops/+/vending/%u/status");
    }
}
