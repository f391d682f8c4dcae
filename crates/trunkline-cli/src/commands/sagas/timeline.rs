//! The steps of an instance along its time.

use jiff::Timestamp;
use serde_json::Value;

use crate::table::{Table, cell, items};

/// How many characters stand for the whole time.
const WIDTH: u16 = 32;

/// The time that a bar stands for, in seconds.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: f64,
    to: f64,
}

/// One row a step: what it is, how it ended, and when.
pub(super) fn of(instance: &Value) -> Table {
    let steps = items(instance, "steps");
    let whole = whole(instance, steps);
    let mut table = Table::new(&["STEP", "KIND", "STATE", "TRIES", "TOOK", "WHEN", "UNDONE"]);
    for step in steps {
        let ran = Span {
            from: at(step, "began").unwrap_or(whole.from),
            to: at(step, "ended").unwrap_or(whole.to),
        };
        let undone = step.get("undone").filter(|undone| undone.is_object());
        let undo = undone.and_then(|undone| {
            Some(Span {
                from: at(undone, "began")?,
                to: at(undone, "at")?,
            })
        });
        let tries = step.get("attempts").and_then(Value::as_u64).unwrap_or(0);
        table.row(vec![
            cell(step, "name"),
            cell(step, "kind"),
            state(step),
            if tries > 0 {
                tries.to_string()
            } else {
                "-".to_owned()
            },
            took(ran),
            bar(whole, ran, undo),
            undone.map_or_else(|| "-".to_owned(), undoing),
        ]);
    }
    table
}

fn state(step: &Value) -> String {
    let state = cell(step, "state");
    match step.get("by").and_then(Value::as_str) {
        Some(_) => format!("{state} by {}", cell(step, "by")),
        None => state,
    }
}

fn undoing(undone: &Value) -> String {
    let tries = cell(undone, "attempts");
    match undone.get("is_done") {
        Some(Value::Bool(true)) if undone.get("by").is_some() => {
            format!("by {}", cell(undone, "by"))
        }
        Some(Value::Bool(true)) => "yes".to_owned(),
        _ => format!("not yet, {tries} tries"),
    }
}

/// From the start to the last that is known.
fn whole(instance: &Value, steps: &[Value]) -> Span {
    let from = at(instance, "started_at").unwrap_or(0.0);
    let mut to = at(instance, "changed_at").unwrap_or(from);
    for step in steps {
        let undone = step.get("undone").and_then(|undone| at(undone, "at"));
        let times = [at(step, "began"), at(step, "ended"), undone];
        to = times.into_iter().flatten().fold(to, f64::max);
    }
    Span { from, to }
}

fn at(value: &Value, name: &str) -> Option<f64> {
    let time: Timestamp = value.get(name)?.as_str()?.parse().ok()?;
    Some(time.as_duration().as_secs_f64())
}

fn took(ran: Span) -> String {
    let seconds = (ran.to - ran.from).max(0.0);
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1_000.0)
    } else if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else if seconds < 7_200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3_600.0)
    }
}

/// Where in the whole time it ran, and where it was undone.
fn bar(whole: Span, ran: Span, undo: Option<Span>) -> String {
    let places = (0..WIDTH).map(|place| {
        let touches = |span: Span| covers(whole, span, place);
        match undo {
            _ if touches(ran) => '█',
            Some(undo) if touches(undo) => '░',
            _ => '·',
        }
    });
    places.collect()
}

/// Whether a place of the bar lies within a span; a span of no length takes the one place that it lies in.
fn covers(whole: Span, span: Span, place: u16) -> bool {
    let length = whole.to - whole.from;
    let scale = |time: f64| {
        if length > 0.0 {
            ((time - whole.from) / length).clamp(0.0, 1.0) * f64::from(WIDTH)
        } else {
            0.0
        }
    };
    let last = f64::from(WIDTH - 1);
    let first = scale(span.from).floor().min(last);
    let end = (scale(span.to).ceil() - 1.0).max(first);
    (first..=end).contains(&f64::from(place))
}
