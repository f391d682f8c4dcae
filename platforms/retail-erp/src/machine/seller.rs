//! A machine that sells by MQTT: it asks, is told to vend, vends once, and tells how that ended.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use trunkline::{Env, Error, Result, Timestamp};

use super::books::{Books, Entry, Stage};
use super::hardware::{Filled, Hardware};
use super::line::{Broker, Heard, Line};
use super::{Done, Plan};
use crate::events::DeviceStatus;
use crate::iot::StatusReport;
use crate::iot::vending::{PurchaseReport, REFUSE, SaleReport, VEND};

/// How long it tries to reach its broker.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// How long a customer waits before the machine gives the sale up.
const PATIENCE: Duration = Duration::from_secs(60);
/// It asks again after this: what nobody listened to is lost.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// It counts its stock at most so often while it sells.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// So many of the last sales it tells again when it connects: the last word may be lost. Telling twice has one effect.
const TOLD_AGAIN: usize = 16;

/// Which machine it is.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Its name: a device of the ERP.
    pub machine_id: String,
    /// Its broker.
    pub broker: Broker,
    /// What lies in it when it is new.
    pub slots: Vec<Filled>,
    /// Where its books are, and what of it is metal.
    pub folder: PathBuf,
    /// How long its motor turns.
    pub vend_takes: Duration,
    /// By how many seconds its clock is wrong.
    pub clock_off_seconds: i64,
}

/// How a sale ended for the customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sold {
    /// The machine's own id of the sale.
    pub sale_id: String,
    /// Whether the piece fell.
    pub vended: bool,
    /// Why it was not to fall; none where it was and did not.
    pub refused: Option<String>,
}

/// A simulated vending machine that speaks MQTT 5.
///
/// # Guarantees
/// It vends at most once for each sale that it asked for, also when it is killed at any point, and tells truly whether the
/// piece fell. A sale in which it is killed before its motor turns is over: the customer is gone.
#[derive(Debug)]
pub struct Seller {
    setup: Setup,
    hardware: Hardware,
    books: Books,
    env: Env,
    /// How often its motor turned, for jams.
    turns: u32,
    jam_every: u32,
    /// The purchase that waits for its answer.
    asked: Option<PurchaseReport>,
    /// Why the last sale was refused.
    refused: Option<(String, String)>,
    counted_at: Option<Instant>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Command {
    command_id: String,
    command: String,
    expires_at: Option<Timestamp>,
    #[serde(default)]
    data: Told,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Told {
    sale_id: String,
    slot: String,
    reason: String,
}

impl Seller {
    /// A machine with its books and its metal as it left them.
    ///
    /// # Errors
    /// `Unavailable` when its folder can't be used.
    pub fn open(setup: Setup) -> Result<Self> {
        std::fs::create_dir_all(&setup.folder).map_err(super::hardware::unusable)?;
        let mut seller = Self {
            hardware: Hardware::open(&setup.folder, setup.slots.clone())?,
            books: Books::open(&setup.folder)?,
            setup,
            env: Env::system(),
            turns: 0,
            jam_every: 0,
            asked: None,
            refused: None,
            counted_at: None,
        };
        for sale in seller.books.open_sales() {
            let vended = match sale.stage {
                Stage::Begun(fallen) => seller.hardware.fallen(&sale.slot) > fallen,
                _ => false,
            };
            seller.end(sale, vended)?;
        }
        Ok(seller)
    }

    /// Comes online, sells from one slot after the other, counts what is left, and goes offline.
    ///
    /// # Errors
    /// `Unavailable` when the broker is away for 30 s at the start; `PermissionDenied` when it does not let the machine in.
    pub async fn run(mut self, plan: &Plan, mut told: impl FnMut(&Sold)) -> Result<Done> {
        self.jam_every = plan.jam_every;
        let mut line = Line::open(&self.setup.broker, &self.setup.machine_id)?;
        let there = timeout(CONNECT_WITHIN, line.hear()).await;
        let there = there.map_err(|_| {
            Error::unavailable("machine_broker_away", "the machine's broker is not reached")
        })?;
        self.heard(&line, there?).await?;
        let slots: Vec<String> = self.hardware.slots().map(str::to_owned).collect();
        let mut done = Done::default();
        for (_, slot) in (0..plan.sales).zip(slots.iter().cycle()) {
            self.listen_until(&mut line, Instant::now() + plan.pause)
                .await?;
            if self.hardware.left(slot) == 0 {
                done.refused += 1;
                continue;
            }
            let sold = self.sell(&mut line, slot, &plan.card_token).await?;
            match (&sold.refused, sold.vended) {
                (Some(_), _) => done.refused += 1,
                (None, true) => done.vended += 1,
                (None, false) => done.refunded += 1,
            }
            told(&sold);
            if self.counted_at.is_none_or(|at| at.elapsed() > COUNT_EVERY) {
                self.count(&line).await?;
            }
        }
        self.count(&line).await?;
        line.say_presence("offline").await?;
        line.close().await;
        Ok(done)
    }

    /// Sells one piece, or does not.
    async fn sell(&mut self, line: &mut Line, slot: &str, card_token: &str) -> Result<Sold> {
        let sale_id = self.env.id().to_string();
        self.books.write(Entry {
            sale_id: sale_id.clone(),
            slot: slot.to_owned(),
            stage: Stage::Asked,
        })?;
        let purchase = PurchaseReport {
            sale_id: sale_id.clone(),
            slot: slot.to_owned(),
            card_token: card_token.to_owned(),
        };
        line.say("purchases", &purchase).await?;
        self.asked = Some(purchase.clone());
        let patience = Instant::now() + PATIENCE;
        let mut ask_at = Instant::now() + ASK_EVERY;
        let vended = loop {
            if let Some(Stage::Ended(vended)) = self.books.stage(&sale_id) {
                break vended;
            }
            let heard = tokio::select! {
                biased;
                heard = line.hear() => heard?,
                () = sleep_until(patience) => {
                    self.give_up(line, &purchase).await?;
                    continue;
                }
                () = sleep_until(ask_at) => {
                    line.say("purchases", &purchase).await?;
                    ask_at += ASK_EVERY;
                    continue;
                }
            };
            self.heard(line, heard).await?;
        };
        self.asked = None;
        let refused = self.refused.take().filter(|(id, _)| *id == sale_id);
        Ok(Sold {
            sale_id,
            vended,
            refused: refused.map(|(_, why)| why),
        })
    }

    /// Nobody answered: the customer goes, and whoever answers now is refused.
    async fn give_up(&mut self, line: &Line, asked: &PurchaseReport) -> Result<()> {
        let sale = Entry {
            sale_id: asked.sale_id.clone(),
            slot: asked.slot.clone(),
            stage: Stage::Asked,
        };
        self.refused = Some((sale.sale_id.clone(), "no_answer".to_owned()));
        self.end(sale, false)?;
        self.tell(line, &asked.sale_id, false).await
    }

    async fn listen_until(&mut self, line: &mut Line, until: Instant) -> Result<()> {
        loop {
            let heard = tokio::select! {
                biased;
                () = sleep_until(until) => return Ok(()),
                heard = line.hear() => heard?,
            };
            self.heard(line, heard).await?;
        }
    }

    async fn heard(&mut self, line: &Line, heard: Heard) -> Result<()> {
        match heard {
            Heard::Connected => self.greet(line).await,
            Heard::Command(publish, came_at) => {
                if let Ok(command) = serde_json::from_slice(&publish.payload) {
                    let properties = publish.properties.as_ref();
                    let left = properties.and_then(|all| all.message_expiry_interval);
                    let left = left.map(|seconds| Duration::from_secs(seconds.into()));
                    self.obey(line, command, left.map(|left| came_at + left))
                        .await?;
                }
                line.acknowledge(&publish).await
            }
            Heard::Refused(why) => {
                let kind = trunkline::ErrorKind::PermissionDenied;
                let text = "the broker does not let the machine in";
                Err(Error::new(kind, "machine_refused", text).with("answer", why))
            }
        }
    }

    /// The line is there: whatever was said before may have been lost with the last one.
    async fn greet(&mut self, line: &Line) -> Result<()> {
        line.say_presence("online").await?;
        for (sale_id, vended) in self.books.ended(TOLD_AGAIN) {
            self.tell(line, &sale_id, vended).await?;
        }
        match &self.asked {
            Some(purchase) => line.say("purchases", purchase).await,
            None => self.count(line).await,
        }
    }

    async fn obey(&mut self, line: &Line, it: Command, begin_by: Option<Instant>) -> Result<()> {
        let done = match it.command.as_str() {
            VEND => {
                // What a clock says that may be wrong counts only where nothing else is known.
                let is_late = match begin_by {
                    Some(by) => Instant::now() > by,
                    None => it.expires_at.is_some_and(|at| at < self.wrong_now()),
                };
                self.vend(line, &it.data, is_late).await?
            }
            REFUSE => {
                self.refuse(line, it.data).await?;
                Ok(())
            }
            _ => Err("command_unknown"),
        };
        let answer = match done {
            Ok(()) => json!({ "commandId": it.command_id, "status": "acknowledged" }),
            Err(why) => {
                json!({ "commandId": it.command_id, "status": "refused", "reason": why })
            }
        };
        line.say("replies", &answer).await
    }

    /// Vends, unless it has done so before or it is not to be: then says why.
    async fn vend(
        &mut self,
        line: &Line,
        it: &Told,
        is_late: bool,
    ) -> Result<std::result::Result<(), &'static str>> {
        match self.books.stage(&it.sale_id) {
            None => return Ok(Err("sale_unknown")),
            Some(Stage::Ended(true)) => return Ok(Ok(())),
            Some(Stage::Ended(false)) => return Ok(Err("sale_ended")),
            Some(Stage::Asked | Stage::Begun(_)) => {}
        }
        let mut sale = Entry {
            sale_id: it.sale_id.clone(),
            slot: it.slot.clone(),
            stage: Stage::Begun(self.hardware.fallen(&it.slot)),
        };
        let can = match (is_late, self.hardware.left(&it.slot)) {
            (true, _) => Err("expired"),
            (false, 0) => Err("slot_empty"),
            (false, _) => Ok(()),
        };
        let vended = if can.is_ok() {
            self.books.write(sale.clone())?;
            sleep(self.setup.vend_takes).await;
            self.turns += 1;
            let jams = self.jam_every > 0 && self.turns.is_multiple_of(self.jam_every);
            if !jams {
                self.hardware.drop_piece(&it.slot)?;
            }
            !jams
        } else {
            false
        };
        sale.stage = Stage::Ended(vended);
        self.books.write(sale)?;
        self.tell(line, &it.sale_id, vended).await?;
        Ok(can.and(if vended { Ok(()) } else { Err("jammed") }))
    }

    async fn refuse(&mut self, line: &Line, it: Told) -> Result<()> {
        if self.books.stage(&it.sale_id) != Some(Stage::Asked) {
            return Ok(());
        }
        let slot = self.asked.as_ref().map(|asked| asked.slot.clone());
        let sale = Entry {
            sale_id: it.sale_id.clone(),
            slot: slot.unwrap_or_default(),
            stage: Stage::Asked,
        };
        self.end(sale, false)?;
        self.refused = Some((it.sale_id.clone(), it.reason));
        self.tell(line, &it.sale_id, false).await
    }

    fn end(&mut self, sale: Entry, vended: bool) -> Result<()> {
        let stage = Stage::Ended(vended);
        self.books.write(Entry { stage, ..sale })
    }

    async fn tell(&self, line: &Line, sale_id: &str, vended: bool) -> Result<()> {
        let sale_id = sale_id.to_owned();
        line.say("sales", &SaleReport { sale_id, vended }).await
    }

    /// Tells what lies in it. Only between sales: what is being sold lies there and is not to be had.
    async fn count(&mut self, line: &Line) -> Result<()> {
        self.counted_at = Some(Instant::now());
        let report = StatusReport {
            status: DeviceStatus::Online,
            stock: self.hardware.count(),
        };
        line.say("status", &report).await
    }

    /// What its clock says.
    fn wrong_now(&self) -> Timestamp {
        let off = std::time::Duration::from_secs(self.setup.clock_off_seconds.unsigned_abs());
        let now = self.env.now();
        let wrong = if self.setup.clock_off_seconds < 0 {
            now.checked_sub(off)
        } else {
            now.checked_add(off)
        };
        wrong.unwrap_or(now)
    }
}
