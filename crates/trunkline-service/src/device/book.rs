//! The books of the device gateway, in the service's store.

use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use trunkline_core::{Context, Result, Timestamp};
use trunkline_device::{
    Cause, CommandBook, Known, Outcome, Pending, PresenceBook, PresenceChanged,
};
use trunkline_store::sql;
use trunkline_telemetry::{Scope, SpanKind};

use super::commands::{micros, settle};
use crate::Cx;
use crate::runtime::Runtime;

const LOAD: &str = "SELECT device, online, cause FROM trunkline_device ORDER BY changed_at DESC";
const ONLINE: &str = "SELECT online FROM trunkline_device WHERE device = $1";
const KEEP: &str = "INSERT INTO trunkline_device (device, online, cause, changed_at) \
    VALUES ($1, $2, $3, $4) ON CONFLICT (device) DO UPDATE \
    SET online = excluded.online, cause = excluded.cause, changed_at = excluded.changed_at";
const DUE: &str = "SELECT id, device, name, data, expires_at, attempts \
    FROM trunkline_device_command WHERE open_now = 1 AND next_at <= $1 ORDER BY next_at, id LIMIT $2";
const NEXT: &str = "SELECT MIN(next_at) FROM trunkline_device_command WHERE open_now = 1";
const PUT_OFF: &str = "UPDATE trunkline_device_command SET next_at = $1, attempts = attempts + $2 \
    WHERE id = $3 AND open_now = 1";
const ROUSE: &str = "UPDATE trunkline_device_command SET next_at = 0 WHERE id = \
    (SELECT MIN(id) FROM trunkline_device_command WHERE device = $1 AND open_now = 1)";
const ROUSE_ALL: &str = "UPDATE trunkline_device_command SET next_at = 0 WHERE id IN \
    (SELECT MIN(id) FROM trunkline_device_command WHERE open_now = 1 GROUP BY device)";
// What ended long ago goes, some at a time, whenever something ends.
const PRUNE: &str = "DELETE FROM trunkline_device_command WHERE id IN \
    (SELECT id FROM trunkline_device_command WHERE open_now = 0 AND settled_at < $1 LIMIT 256)";
/// How long ended commands are kept, in microseconds: a week.
const KEPT_MICROS: i64 = 7 * 86_400 * 1_000_000;

/// Presence and commands in the store of a service.
pub(super) struct Books(pub(super) Arc<Runtime>);

impl Books {
    /// Runs something of a device as a piece of work of its own.
    async fn work<F, W>(&self, name: &'static str, device: &str, work: F) -> Result<()>
    where
        F: FnOnce(Cx) -> W,
        W: Future<Output = Result<()>>,
    {
        let runtime = &self.0;
        let telemetry = &runtime.telemetry;
        let mut span = telemetry.span(SpanKind::Internal, name, &runtime.name, None);
        let mut context = Context::root(&runtime.env);
        context.trace = span.context();
        if runtime.devices.as_ref().is_some_and(|hub| hub.as_users) {
            context = context.with_user(device.to_owned());
        }
        let scope = Scope::new(&runtime.name, &context);
        let cx = Cx::new(runtime.clone(), context);
        let done = scope.run(async {
            work(cx.clone()).await?;
            cx.finish(None).await
        });
        let done = done.await;
        if let Err(error) = &done {
            span.fail(error);
            cx.undo().await;
        }
        done
    }
}

impl PresenceBook for Books {
    fn load(&self, max: usize) -> BoxFuture<'_, Result<Vec<Known>>> {
        Box::pin(async move {
            let mut reader = self.0.store.read().await?;
            let rows = sql(LOAD)
                .all::<(String, i64, String)>(reader.conn())
                .await?;
            let known = rows.into_iter().map(|(device, online, cause)| Known {
                device: device.into(),
                online: online != 0,
                silent: cause == word(Cause::Silent),
            });
            Ok(known.take(max).collect())
        })
    }

    fn announce<'a>(&'a self, change: &'a PresenceChanged) -> BoxFuture<'a, Result<()>> {
        Box::pin(
            self.work("device presence", &change.device, async move |cx: Cx| {
                let mut tx = cx.tx().await?;
                let known = sql(ONLINE).bind(&change.device);
                let known = known.first::<(i64,)>(tx.conn()).await?;
                if known.is_some_and(|(online,)| (online != 0) == change.online) {
                    return Ok(());
                }
                let keep = sql(KEEP).bind(&change.device).bind(change.online);
                let keep = keep.bind(word(change.cause)).bind(micros(change.at));
                keep.run(tx.conn()).await?;
                drop(tx);
                let hub = self.0.devices.as_ref();
                match hub.and_then(|hub| hub.presence.as_ref()) {
                    Some(handler) => handler(cx, change.clone()).await,
                    None => Ok(()),
                }
            }),
        )
    }
}

impl CommandBook for Books {
    fn due<'a>(&'a self, now: Timestamp, max: u32) -> BoxFuture<'a, Result<Vec<Pending>>> {
        type Row = (String, String, String, String, i64, i64);
        Box::pin(async move {
            let mut reader = self.0.store.read().await?;
            let rows = sql(DUE).bind(micros(now)).bind(max);
            let rows = rows.all::<Row>(reader.conn()).await?;
            // They are sent now: a power failure must not take them back.
            self.0.store.settled().await?;
            let pending = |(id, device, name, data, expires_at, attempts): Row| Pending {
                id: id.into(),
                device: device.into(),
                name,
                data,
                expires_at: Timestamp::from_microsecond(expires_at).unwrap_or(Timestamp::MAX),
                attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            };
            Ok(rows.into_iter().map(pending).collect())
        })
    }

    fn next_due(&self) -> BoxFuture<'_, Result<Option<Timestamp>>> {
        Box::pin(async move {
            let mut reader = self.0.store.read().await?;
            let (next,) = sql(NEXT).one::<(Option<i64>,)>(reader.conn()).await?;
            Ok(next.map(|at| Timestamp::from_microsecond(at).unwrap_or(Timestamp::MAX)))
        })
    }

    fn put_off<'a>(
        &'a self,
        command: &'a Pending,
        at: Timestamp,
        sent: bool,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut tx = self.0.store.begin().await?;
            let put_off = sql(PUT_OFF).bind(micros(at)).bind(sent);
            put_off.bind(&command.id).run(tx.conn()).await?;
            tx.commit().await
        })
    }

    fn rouse<'a>(&'a self, device: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut tx = self.0.store.begin().await?;
            let rouse = match device {
                "" => sql(ROUSE_ALL),
                device => sql(ROUSE).bind(device),
            };
            rouse.run(tx.conn()).await?;
            tx.commit().await
        })
    }

    fn expire<'a>(&'a self, command: &'a Pending) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.work(
            "device command expired",
            &command.device,
            async move |cx: Cx| {
                let before = micros(cx.now()).saturating_sub(KEPT_MICROS);
                let mut tx = cx.tx().await?;
                sql(PRUNE).bind(before).run(tx.conn()).await?;
                drop(tx);
                let it = (&*command.device, &*command.id);
                settle(&cx, it, Outcome::Expired, None).await
            },
        ))
    }
}

fn word(cause: Cause) -> &'static str {
    match cause {
        Cause::Said => "said",
        Cause::Heard => "heard",
        Cause::Silent => "silent",
    }
}
