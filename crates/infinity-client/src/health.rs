//! How the server is: reachable, which model, which dimension, how fast, and what is wrong.
//!
//! Not obvious: `/health` alone says nothing about embedding, since it stays 200 when the worker is dead. So one word is
//! embedded too, without retries, and the whole takes no longer than the timeout, nor than [`LONGEST`].

use std::time::{Duration, Instant};

use crate::Error;
use crate::config::{Health, Model};
use crate::exchange::Session;
use crate::response::parse_models;

/// A look at the server that takes longer is of no use to anybody.
const LONGEST: Duration = Duration::from_secs(10);

impl Session {
    /// Looks at the server; whatever is wrong becomes the problem of the answer.
    pub(crate) async fn health(&self) -> Health {
        let mut health = Health {
            url: self.url(),
            reachable: false,
            model: None,
            dim: None,
            latency: None,
            problem: None,
        };
        let begun = Instant::now();
        let within = self.config.timeout.min(LONGEST);
        let status = self.health_status(within).await;
        health.reachable = status.is_ok();
        if let Err(error) = status {
            health.problem = Some(error);
            return health;
        }
        // A proxy may hide /health and still serve the rest: the status itself decides nothing.
        let asked = Instant::now();
        let left = within.saturating_sub(begun.elapsed());
        let reply = self.probe_once(left).await;
        health.latency = reply.is_ok().then(|| asked.elapsed());
        match reply.and_then(|reply| self.learn(&reply)) {
            Ok(dim) => (health.model, health.dim) = (Some(self.config.model.clone()), Some(dim)),
            Err(error) => health.problem = Some(self.explained(error, status == Ok(200), left)),
        }
        match &health.problem {
            Some(Error::DimensionMismatch { model, served, .. }) => {
                (health.model, health.dim) = (Some(model.clone()), Some(*served));
            }
            Some(Error::WrongModel { served, .. }) => health.model = Some(served.clone()),
            Some(Error::SingleVectorModel { model, dim }) => {
                (health.model, health.dim) = (Some(model.clone()), Some(*dim));
            }
            _ => {}
        }
        health
    }

    /// A one-word request that hangs beside a healthy `/health` means a dead worker.
    fn explained(&self, error: Error, healthy: bool, after: Duration) -> Error {
        match error {
            Error::TimedOut { url, .. } if healthy => Error::Wedged { url, after },
            Error::Rejected {
                status, message, ..
            } => Error::Refused {
                url: self.url(),
                status,
                message,
            },
            error => error,
        }
    }

    /// The models the server has loaded.
    pub(crate) async fn list_models(&self) -> Result<Vec<Model>, Error> {
        let reply = self.models().await?;
        parse_models(&reply.body).map_err(|reason| self.malformed(reason))
    }
}
