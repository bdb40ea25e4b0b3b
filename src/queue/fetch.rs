//! The requests of a batch: its sources go to the Infinity server, with no transaction open.
//!
//! Used by [`super::batch`]. Not obvious: what was embedded before the server failed is kept, so that a server which turns
//! away some of the requests is not asked for the others again.

use std::time::Duration;

use infinity_client::{Config, Error, Inputs};

use super::batch::{Claim, Verdicts};
use super::rows::{Content, Embedded, Source};
use crate::embed::client;
use crate::error::SqlError;
use crate::interrupt::BackendWait;
use crate::settings;

/// How long a target rests after a failure that passes by itself, and after another.
const PASSING_PAUSE: Duration = Duration::from_millis(500);
const LASTING_PAUSE: Duration = Duration::from_secs(10);
/// No server keeps us away for longer, whatever its Retry-After says.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Retries within a request of one who comes back anyway: the waits between more would be longer than the pause.
const MOST_PATIENT_RETRIES: u32 = 2;

/// Why not all of a batch could be embedded, and how long its target shall rest.
pub(super) struct Problem {
    pub(super) error: SqlError,
    pub(super) pause: Duration,
}

impl Problem {
    fn lasting(error: SqlError) -> Problem {
        Problem {
            error,
            pause: LASTING_PAUSE,
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let pause = match &error {
            Error::Overloaded { retry_after, .. } => retry_after
                .unwrap_or_default()
                .clamp(PASSING_PAUSE, LONGEST_PAUSE),
            error if error.is_transient() => PASSING_PAUSE,
            _ => LASTING_PAUSE,
        };
        Problem {
            error: SqlError::from(error),
            pause,
        }
    }
}

/// Embeds with no transaction open. Inputs that the server refuses and those that it did not come to go to the verdicts.
/// Gives the embeddings, their dimension, and why there are not more.
pub(super) fn fetch(
    claim: &Claim,
    patient: bool,
    sources: &mut [Source],
    verdicts: &mut Verdicts,
) -> (Vec<Embedded>, usize, Option<Problem>) {
    let (mut texts, mut images, mut places) = (Vec::new(), Vec::new(), Vec::new());
    let mut embedded = Vec::with_capacity(sources.len());
    for (index, source) in sources.iter_mut().enumerate() {
        match source.content.take() {
            None => embedded.push((index, None)),
            Some(Content::Text(text)) => {
                texts.push(text);
                places.push(index);
            }
            Some(Content::Image(image)) => {
                images.push(image);
                places.push(index);
            }
        }
    }
    let inputs = match claim.is_image {
        true => Inputs::Images(images),
        false => Inputs::Texts(texts),
    };
    if places.is_empty() {
        return (embedded, 0, None);
    }
    let (mut outcomes, mut problem) = (vec![None; places.len()], None);
    match config(claim, patient) {
        Err(error) => problem = Some(Problem::lasting(error)),
        Ok(config) => {
            let attempt = client().embed(&config, inputs, &mut BackendWait);
            outcomes = attempt.outcomes;
            if let Some(failure) = attempt.failure {
                if makes_suspects(&failure) {
                    let suspects = attempt.failed_together.iter();
                    let keys = suspects.map(|&input| sources[places[input]].key.clone());
                    verdicts.suspects.extend(keys);
                }
                if is_its_own(&failure, claim) {
                    outcomes[0] = Some(Err(failure));
                } else {
                    problem = Some(Problem::from(failure));
                }
            }
        }
    }
    let mut dim = 0;
    for (index, outcome) in places.into_iter().zip(outcomes) {
        match outcome {
            Some(Ok(vectors)) => {
                dim = vectors.dim;
                let bytes = bytemuck::cast_slice(&vectors.values).to_vec();
                embedded.push((index, Some(bytes)));
            }
            Some(Err(error)) => {
                let message = SqlError::from(error).sentence();
                verdicts.failed.push((sources[index].key.clone(), message));
            }
            None => verdicts.given_back.push(sources[index].key.clone()),
        }
    }
    (embedded, dim, problem)
}

/// Whether a row may be to blame for the failure of the request that it was in: time ran out over it, and the server is there.
fn makes_suspects(failure: &Error) -> bool {
    matches!(
        failure,
        Error::TimedOut { works: true, .. } | Error::Wedged { .. }
    )
}

/// Whether time ran out over a row because of what it is: it was alone, and the server worked before and after. A server that
/// works before, and hangs after it was given a suspect, may go on computing what nobody waits for any more.
fn is_its_own(failure: &Error, claim: &Claim) -> bool {
    let is_alone = claim.keys.len() == 1 && !claim.is_probe;
    is_alone
        && match failure {
            Error::TimedOut { works, .. } => *works,
            Error::Wedged { .. } => claim.is_suspect,
            _ => false,
        }
}

fn config(claim: &Claim, patient: bool) -> Result<Config, SqlError> {
    let mut identity = settings::identity(Some(&String::from_utf8_lossy(&claim.model)))?;
    identity.dim = claim.dim.map(|dim| dim as usize);
    identity.normalize = claim.normalize;
    let config = settings::config(identity)?;
    let most = match (patient, claim.is_probe) {
        (true, true) => 0,
        (true, false) => MOST_PATIENT_RETRIES,
        (false, _) => u32::MAX,
    };
    Ok(Config {
        max_retries: config.max_retries.min(most),
        ..config
    })
}
