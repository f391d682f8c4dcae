//! Functions as handlers of routes.

use std::future::Future;

use futures::future::BoxFuture;
use trunkline_core::Result;

use super::input::{Incoming, Input};
use super::output::{Answer, Output};
use crate::Cx;
use crate::openapi::Operation;

/// An async function that answers a route: `async fn(Cx, [Input…]) -> Result<Output>`, with up to three inputs.
pub trait HttpHandler<Args>: Clone + Send + Sync + 'static {
    /// Describes what goes in and out.
    fn describe(operation: &mut Operation);

    /// Answers a request.
    fn call(self, cx: Cx, incoming: Incoming) -> BoxFuture<'static, Result<Answer>>;
}

macro_rules! handler {
    ($($input:ident),*) => {
        impl<F, W, O, $($input),*> HttpHandler<(Cx, $($input,)* O)> for F
        where
            F: Fn(Cx, $($input),*) -> W + Clone + Send + Sync + 'static,
            W: Future<Output = Result<O>> + Send + 'static,
            O: Output,
            $($input: Input,)*
        {
            fn describe(operation: &mut Operation) {
                $($input::describe(operation);)*
                O::describe(operation);
            }

            fn call(self, cx: Cx, incoming: Incoming) -> BoxFuture<'static, Result<Answer>> {
                Box::pin(async move {
                    #[expect(unused_mut, reason = "a handler may have no input")]
                    #[allow(unfulfilled_lint_expectations, reason = "and it may have some")]
                    let mut incoming = incoming;
                    #[expect(unused_variables, reason = "a handler may have no input")]
                    #[allow(unfulfilled_lint_expectations, reason = "and it may have some")]
                    let from = &mut incoming;
                    self(cx, $($input::read(from).await?),*).await?.into_answer()
                })
            }
        }
    };
}

handler!();
handler!(A);
handler!(A, B);
handler!(A, B, C);
