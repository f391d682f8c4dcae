//! A server of a test's own, on a free port.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use trunkline_core::{Env, Error, ErrorKind};
use trunkline_realtime::{Handshake, Limits, Member, Namespace, Rate, Realtime, Socket};

pub(crate) struct Server {
    pub(crate) realtime: Realtime,
    pub(crate) url: String,
    /// What follows a disconnect was done so often.
    pub(crate) followed: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        let followed = Arc::<AtomicUsize>::default();
        let namespaces = [open(followed.clone()), games()];
        let realtime = Realtime::new(namespaces, limits, Env::system()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router: Router = realtime.router();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            realtime,
            url,
            followed,
            serving,
        }
    }
}

/// For everybody.
fn open(followed: Arc<AtomicUsize>) -> Namespace {
    Namespace::at("/")
        .rate(Rate {
            burst: 200,
            per_second: 200,
        })
        .on("echo", |_, args| async move { args.get::<Value>(0) })
        .on("nothing", |_, _| async { Ok(()) })
        .on("fails", |_, _| async {
            Err::<(), _>(Error::conflict("move_illegal", "that is no move"))
        })
        .on("breaks", |_, _| async {
            Err::<(), _>(Error::internal("secret detail"))
        })
        .on("panics", |_, _| async {
            if true {
                panic!("a handler");
            }
            Ok(())
        })
        .on("bytes", |socket: Socket, args| async move {
            let bytes = args.bytes(0)?;
            let longer: Vec<u8> = bytes.iter().rev().copied().collect();
            socket.emit_bytes("bytes back", &args.len(), vec![Bytes::from(longer)])
        })
        .on("ask me", |socket: Socket, _| async move {
            let answer = socket
                .ask("question", &"how many?", Duration::from_secs(5))
                .await?;
            answer.get::<u32>(0)
        })
        .on("join", |socket: Socket, args| async move {
            let room: String = args.get(0)?;
            socket.join(room.as_str())?;
            socket
                .to(room.as_str())
                .emit("joined", &json!({ "id": socket.id(), "room": room }))
        })
        .on("leave", |socket: Socket, args| async move {
            socket.leave(&args.get::<String>(0)?);
            Ok(())
        })
        .on("say", |socket: Socket, args| async move {
            let (room, text): (String, String) = (args.get(0)?, args.get(1)?);
            socket.namespace().to(room).emit("said", &text)
        })
        .on("odds", |socket: Socket, args| async move {
            for odds in 0..args.get::<u32>(0)? {
                socket.namespace().latest("odds").emit("odds", &odds)?;
            }
            Ok(())
        })
        .on("go away", |socket: Socket, _| async move {
            socket.disconnect();
            Ok(())
        })
        .on_disconnect(move |socket, rooms, why| {
            let followed = followed.clone();
            async move {
                for room in rooms {
                    let gone = json!({ "id": socket.id(), "why": why });
                    socket.namespace().to(room).emit("left", &gone).unwrap();
                }
                // Work that takes longer than the connection's end.
                tokio::time::sleep(Duration::from_millis(300)).await;
                followed.fetch_add(1, Ordering::SeqCst);
            }
        })
}

/// For those who have a token, `secret-USER` or `short-USER`; who is cut off may come back.
fn games() -> Namespace {
    Namespace::at("/games")
        .plain_at("/ws/games")
        .recovers(Duration::from_secs(60), 100)
        .rate(Rate {
            burst: 6,
            per_second: 1,
        })
        .rooms_max(2)
        .admits(|handshake: Handshake| async move {
            let missing = || {
                Error::new(
                    ErrorKind::Unauthenticated,
                    "token_missing",
                    "expected a token",
                )
            };
            let token = handshake.token().ok_or_else(missing)?;
            let (sort, user) = token.split_once('-').ok_or_else(missing)?;
            let until = match sort {
                "secret" => None,
                "short" => Some(Env::system().after(Duration::from_millis(300))),
                _ => {
                    return Err(Error::new(
                        ErrorKind::Unauthenticated,
                        "token_invalid",
                        "the token is not valid",
                    ));
                }
            };
            Ok(Member {
                user: Some(user.to_owned().into()),
                roles: Vec::new(),
                until,
            })
        })
        .on_connect(|socket: Socket| async move {
            let user = socket.user()?.clone();
            if user == "mallory" {
                return Err(Error::conflict("user_unwanted", "not you"));
            }
            socket.emit(
                "hello",
                &json!({ "user": user, "recovered": socket.is_recovered() }),
            )
        })
        .on("join-game", |socket: Socket, args| async move {
            let game: String = args.get(0)?;
            socket.join(format!("game:{game}"))?;
            Ok(socket.rooms())
        })
        .on("move", |socket: Socket, args| async move {
            let (game, text): (String, String) = (args.get(0)?, args.get(1)?);
            socket
                .namespace()
                .to(format!("game:{game}"))
                .emit("moved", &text)
        })
        .on("who", |socket: Socket, _| async move {
            Ok(socket.namespace().users())
        })
}
