//! Devices that report by HTTP.

use trunkline::{Cx, Error, ErrorKind, Json, NoContent, Path, Result};

use super::report::{self, DataReport, StatusReport};
use crate::device_of;

pub(super) async fn status(
    cx: Cx,
    Path(device_id): Path<String>,
    Json(told): Json<StatusReport>,
) -> Result<NoContent> {
    itself(&cx, &device_id)?;
    report::status(&cx, device_id, told).await?;
    Ok(NoContent)
}

pub(super) async fn data(
    cx: Cx,
    Path(device_id): Path<String>,
    Json(told): Json<DataReport>,
) -> Result<NoContent> {
    itself(&cx, &device_id)?;
    report::data(&cx, device_id, told).await?;
    Ok(NoContent)
}

/// A device speaks for itself alone.
fn itself(cx: &Cx, device_id: &str) -> Result<()> {
    if device_of(cx)? == device_id {
        return Ok(());
    }
    let text = "a device reports for itself alone";
    Err(Error::new(
        ErrorKind::PermissionDenied,
        "device_not_itself",
        text,
    ))
}
