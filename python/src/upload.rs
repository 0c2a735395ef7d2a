//! A request's body that Python feeds piece by piece.
//!
//! It ends well only if it was said that it ends. A program that dies or changes its mind in the middle must not leave
//! a shorter body behind that looks whole.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;

/// Pieces that wait to be sent. Whoever has more waits.
const PIECES: usize = 4;

/// The program stopped feeding the body before its end.
#[derive(Debug, thiserror::Error)]
#[error("the request's body was given up before its end")]
pub(crate) struct GivenUp;

/// What is fed.
pub(crate) enum Piece {
    Data(Bytes),
    End,
}

/// The body.
pub(crate) enum Upload {
    /// There is none.
    Empty,
    /// Pieces come.
    Fed(mpsc::Receiver<Piece>),
}

impl Upload {
    /// A body, and the end at which it is fed.
    pub(crate) fn fed() -> (mpsc::Sender<Piece>, Self) {
        let (feed, pieces) = mpsc::channel(PIECES);
        (feed, Self::Fed(pieces))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        let piece = match &mut *self {
            Self::Empty => return Poll::Ready(None),
            Self::Fed(pieces) => pieces.poll_recv(context),
        };
        piece.map(|piece| match piece {
            Some(Piece::Data(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Piece::End) => {
                *self = Self::Empty;
                None
            }
            None => Some(Err(GivenUp)),
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }
}
