//! The client: blocking to its caller, while the work is done on the network thread.
//!
//! One per process is enough. Nothing happens before the first call; after a fork the child gets a thread of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Error;
use crate::config::{Attempt, Config, Health, Inputs, Modality, Model, Outcome};
use crate::dimension::Dimensions;
use crate::embed::Input;
use crate::endpoint::Endpoint;
use crate::exchange::Session;
use crate::network::{Network, Wait};

/// No deadline is later: instants cannot be added to without end.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 86_400);

/// Embeds through an Infinity server. Cheap to make; shares connections and learnt dimensions over its calls.
#[derive(Default)]
pub struct Client {
    network: Mutex<Option<Arc<Network>>>,
    dimensions: Mutex<Option<Arc<Dimensions>>>,
}

impl Client {
    /// A client that has not done anything yet.
    pub const fn new() -> Self {
        Client {
            network: Mutex::new(None),
            dimensions: Mutex::new(None),
        }
    }

    /// Embeds texts. One outcome for each, in their order; no texts, no request.
    ///
    /// # Errors
    /// The outer error means that nothing could be embedded (no connection, wrong key, wrong model, timeout…); an inner one
    /// that this text is bad, while the others were embedded.
    pub fn embed_texts(
        &self,
        config: &Config,
        inputs: Vec<String>,
        wait: &mut dyn Wait,
    ) -> Result<Vec<Outcome>, Error> {
        whole(self.embed(config, Inputs::Texts(inputs), wait))
    }

    /// Embeds images: whole files as JPEG, PNG, GIF, WebP, BMP or TIFF. Each is decoded, checked and re-encoded before it is
    /// sent, because one bad image kills the server's worker for good.
    ///
    /// # Errors
    /// As [`Client::embed_texts`].
    pub fn embed_images(
        &self,
        config: &Config,
        inputs: Vec<Vec<u8>>,
        wait: &mut dyn Wait,
    ) -> Result<Vec<Outcome>, Error> {
        whole(self.embed(config, Inputs::Images(inputs), wait))
    }

    /// Embeds texts or images, and gives what has been embedded also when the call cannot be brought to its end.
    pub fn embed(&self, config: &Config, inputs: Inputs, wait: &mut dyn Wait) -> Attempt {
        let (modality, inputs): (Modality, Vec<Input>) = match inputs {
            Inputs::Texts(texts) => (
                Modality::Text,
                texts.into_iter().map(Input::Ready).collect(),
            ),
            Inputs::Images(images) => (
                Modality::Image,
                images.into_iter().map(Input::Image).collect(),
            ),
        };
        let count = inputs.len();
        let nothing = |failure| Attempt {
            outcomes: vec![None; count],
            failure,
            failed_together: Vec::new(),
        };
        if count == 0 {
            return nothing(None);
        }
        self.session(config)
            .and_then(|(network, session)| {
                network.run(async move { session.embed(modality, inputs).await }, wait)
            })
            .unwrap_or_else(|error| nothing(Some(error)))
    }

    /// The models the server has loaded.
    ///
    /// # Errors
    /// Whatever keeps the server from telling.
    pub fn models(&self, config: &Config, wait: &mut dyn Wait) -> Result<Vec<Model>, Error> {
        let (network, session) = self.session(config)?;
        network.run(async move { session.list_models().await }, wait)?
    }

    /// How the server is. Never fails: what is wrong is the answer's `problem`.
    pub fn health(&self, config: &Config, wait: &mut dyn Wait) -> Health {
        let url = Endpoint::parse(&config.url)
            .map(|endpoint| endpoint.base)
            .unwrap_or_default();
        let result = self.session(config).and_then(|(network, session)| {
            network.run(async move { session.health().await }, wait)
        });
        result.unwrap_or_else(|error| Health {
            url,
            reachable: false,
            model: None,
            dim: None,
            latency: None,
            problem: Some(error),
        })
    }

    /// Checks the settings and makes the network ready.
    fn session(&self, config: &Config) -> Result<(Arc<Network>, Session), Error> {
        let endpoint = Endpoint::parse(&config.url)?;
        let network = self.network()?;
        let mut config = config.clone();
        config.timeout = config.timeout.min(LONGEST_TIMEOUT);
        let mut dimensions = self
            .dimensions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let session = Session {
            transport: network.transport.clone(),
            dimensions: dimensions.get_or_insert_default().clone(),
            endpoint,
            config,
            learning: tokio::sync::Mutex::default(),
        };
        Ok((network, session))
    }

    /// The network thread of this process, started if there is none.
    fn network(&self) -> Result<Arc<Network>, Error> {
        let mut slot = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(network) = slot.as_ref().filter(|network| network.is_alive()) {
            return Ok(network.clone());
        }
        let started = Arc::new(Network::start()?);
        match slot.replace(started.clone()) {
            // Its descriptors are the parent's as well; see the note at its drop.
            Some(inherited) if inherited.is_inherited() => std::mem::forget(inherited),
            _ => {}
        }
        Ok(started)
    }
}

/// All outcomes, or the failure.
fn whole(attempt: Attempt) -> Result<Vec<Outcome>, Error> {
    match attempt.failure {
        Some(error) => Err(error),
        None => Ok(attempt.outcomes.into_iter().flatten().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::BlockingWait;

    #[test]
    fn nothing_happens_before_the_first_call_and_an_empty_list_asks_nobody() {
        let client = Client::new();
        let config = Config::new("http://127.0.0.1:1", "m");
        assert_eq!(
            client.embed_texts(&config, vec![], &mut BlockingWait),
            Ok(vec![])
        );
        assert_eq!(
            client.embed_images(&config, vec![], &mut BlockingWait),
            Ok(vec![])
        );
        assert!(client.network.lock().unwrap().is_none());
    }

    #[test]
    fn a_process_that_was_forked_makes_a_thread_of_its_own() {
        let client = Client::new();
        let first = client.network().unwrap();
        assert!(Arc::ptr_eq(&first, &client.network().unwrap()));
        drop(first);
        {
            let mut slot = client.network.lock().unwrap();
            Arc::get_mut(slot.as_mut().unwrap())
                .unwrap()
                .pretend_inherited();
        }
        let own = client.network().unwrap();
        assert!(own.is_alive() && !own.is_inherited());
        assert_eq!(own.run(async { 1 }, &mut BlockingWait), Ok(1));
    }
}
