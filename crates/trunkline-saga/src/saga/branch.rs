//! What runs side by side.

use std::future::Future;

use bytestring::ByteString;
use futures::future::{join_all, select_all};
use futures::{FutureExt, pin_mut};
use trunkline_core::{Error, ErrorKind, Result};

use super::Saga;
use super::undo::undo_all;
use crate::host::Host;
use crate::journal::Body;
use crate::live::Kind;

/// How many branches one operation may have.
pub const BRANCHES_MAX: usize = 1_000;

impl<H: Host> Saga<H> {
    /// Does something for each of these, side by side, each in a branch of its own; what each gave, in their order.
    ///
    /// # Guarantees
    /// It ends when all have, so that all that was done is known, and undone when the saga fails.
    ///
    /// # Errors
    /// Of those that failed, the first in their order; `TooLarge` above [`BRANCHES_MAX`].
    pub async fn all<I, T, F, W>(
        &self,
        name: &str,
        items: impl IntoIterator<Item = I>,
        branch: F,
    ) -> Result<Vec<T>>
    where
        F: Fn(Self, I) -> W,
        W: Future<Output = Result<T>>,
    {
        let (_, branches) = self.branches(name, items, branch)?;
        join_all(branches).await.into_iter().collect()
    }

    /// Does something as one part: when that fails, what it did is undone at once, and the saga may go on another way, such as
    /// with another provider.
    ///
    /// # Errors
    /// Why it failed. All that it did is undone by then.
    pub async fn part<T, F, W>(&self, name: &str, part: F) -> Result<T>
    where
        F: Fn(Self) -> W,
        W: Future<Output = Result<T>>,
    {
        let (place, mut parts) = self.branches(name, [()], |branch, ()| part(branch))?;
        let ended = match parts.pop() {
            Some(part) => part.await,
            None => Err(none()),
        };
        if ended.is_err() {
            let undos = self.live.take_undo(Some(&*scope(&place, 0)));
            undo_all(&self.live, undos).await;
        }
        ended
    }

    /// Does something for each of these, side by side, each in a branch of its own, until the first has succeeded: its place
    /// among them, from 0, and what it gave. What the others did, or may have done, is undone at once.
    ///
    /// # Errors
    /// When all have failed, what the last in their order said; `InvalidInput` for none, `TooLarge` above [`BRANCHES_MAX`].
    pub async fn first<I, T, F, W>(
        &self,
        name: &str,
        items: impl IntoIterator<Item = I>,
        branch: F,
    ) -> Result<(usize, T)>
    where
        F: Fn(Self, I) -> W,
        W: Future<Output = Result<T>>,
    {
        let (place, branches) = self.branches(name, items, branch)?;
        let name = ByteString::from(name);
        let began = self.live.env().now();
        let past = self.live.past(&place, &name, Kind::Race);
        let won = past.iter().find_map(|entry| match entry.body {
            Body::Won { index } => Some(index),
            _ => None,
        });
        if let Some(index) = won {
            return self.known(&place, index, branches).await;
        }
        self.go_on(&place).await;
        let count = branches.len();
        let mut running: Vec<_> = branches
            .into_iter()
            .enumerate()
            .map(|(index, branch)| Box::pin(async move { (index, branch.await) }))
            .collect();
        let mut failed: Option<(usize, Error)> = None;
        while !running.is_empty() {
            let ((index, ended), _, others) = select_all(running).await;
            running = others;
            match ended {
                Ok(value) => {
                    self.live.note(&place, &name, began, Body::Won { index });
                    // Those on their way are dropped, as ones of whose effect nobody knows.
                    drop(running);
                    self.lose(&place, index, count).await;
                    return Ok((index, value));
                }
                Err(error) => {
                    if failed.as_ref().is_none_or(|(last, _)| *last < index) {
                        failed = Some((index, error));
                    }
                }
            }
        }
        Err(failed.map_or_else(none, |(_, error)| error))
    }

    /// The race is over: the others come to where they were left, and the winner gives what it gave.
    async fn known<T, W>(&self, place: &str, index: usize, branches: Vec<W>) -> Result<(usize, T)>
    where
        W: Future<Output = Result<T>>,
    {
        let count = branches.len();
        for other in (0..count).filter(|other| *other != index) {
            self.live.lose(scope(place, other));
        }
        let mut winner = None;
        for (at, branch) in branches.into_iter().enumerate() {
            if at == index {
                winner = Some(branch);
            } else {
                pin_mut!(branch);
                drop(branch.now_or_never());
            }
        }
        let value = match winner {
            Some(winner) => winner.await?,
            None => {
                let error = Error::conflict(
                    "saga_code_changed",
                    "the code does not fit the journal: the branch that won is not there any more",
                );
                self.parked(&error.with("place", place)).await
            }
        };
        self.lose(place, index, count).await;
        Ok((index, value))
    }

    /// Undoes what all branches but one did.
    async fn lose(&self, place: &str, winner: usize, count: usize) {
        for other in (0..count).rev().filter(|other| *other != winner) {
            let scope = scope(place, other);
            self.live.lose(scope.clone());
            let undos = self.live.take_undo(Some(&*scope));
            undo_all(&self.live, undos).await;
        }
    }

    /// The place of what runs them, and each of them.
    fn branches<I, W, F>(
        &self,
        name: &str,
        items: impl IntoIterator<Item = I>,
        branch: F,
    ) -> Result<(ByteString, Vec<W>)>
    where
        F: Fn(Self, I) -> W,
    {
        let place = self.enter();
        let branches: Vec<W> = items
            .into_iter()
            .take(BRANCHES_MAX + 1)
            .enumerate()
            .map(|(n, item)| branch(self.scoped(scope(&place, n)), item))
            .collect();
        if branches.len() > BRANCHES_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "saga_branches_too_many",
                "an operation has more branches than its bound",
            )
            .with("operation", name)
            .with("branches_max", BRANCHES_MAX));
        }
        Ok((place, branches))
    }
}

fn scope(place: &str, branch: usize) -> ByteString {
    format!("{place}/{branch}/").into()
}

fn none() -> Error {
    Error::invalid(
        "saga_branches_none",
        "the first of none can't be waited for",
    )
}
