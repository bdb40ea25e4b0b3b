//! `infinity_embed_text`, `_texts`, `_image`, `_images`: from SQL values to embeddings.
//!
//! The set-returning forms take their array a round at a time (a batch on every connection), so
//! that memory is bounded by a round and not by the array. Triggers call [`text`] and [`image`].

use std::collections::VecDeque;
use std::rc::Rc;

use infinity_client::{Client, Config, Error, MultiVector, Outcome};
use pgrx::iter::SetOfIterator;
use pgrx::{Array, pg_extern};

use crate::cache;
use crate::encoding::to_utf8;
use crate::error::SqlError;
use crate::interrupt::BackendWait;
use crate::matrix::RealArray;
use crate::settings;

/// This process's connection to the server; the network thread comes with its first call.
static CLIENT: Client = Client::new();

pub(crate) fn client() -> &'static Client {
    &CLIENT
}

#[pg_extern(sql = false)]
fn infinity_embed_text(input: Option<&[u8]>, model: Option<&[u8]>) -> Option<RealArray> {
    let embedding = input.map(|input| text(input, model)).transpose();
    embedding
        .unwrap_or_else(|error| error.raise())
        .map(RealArray::embedding)
}

#[pg_extern(sql = false)]
fn infinity_embed_image(image: Option<&[u8]>, model: Option<&[u8]>) -> Option<RealArray> {
    let embedding = image.map(|bytes| self::image(bytes, model)).transpose();
    embedding
        .unwrap_or_else(|error| error.raise())
        .map(RealArray::embedding)
}

#[pg_extern(sql = false)]
fn infinity_embed_texts<'a>(
    inputs: Option<Array<'a, &'a [u8]>>,
    model: Option<&[u8]>,
) -> SetOfIterator<'a, Option<RealArray>> {
    rounds(inputs, model, |config, round| {
        let texts: Result<Vec<String>, SqlError> = round.into_iter().map(to_utf8).collect();
        Ok(CLIENT.embed_texts(config, texts?, &mut BackendWait)?)
    })
}

#[pg_extern(sql = false)]
fn infinity_embed_images<'a>(
    images: Option<Array<'a, &'a [u8]>>,
    model: Option<&[u8]>,
) -> SetOfIterator<'a, Option<RealArray>> {
    rounds(images, model, |config, round| {
        let images = round.into_iter().map(<[u8]>::to_vec).collect();
        Ok(CLIENT.embed_images(config, images, &mut BackendWait)?)
    })
}

/// The embedding of one text, from the cache where it is there.
///
/// # Errors
/// Those of the settings, the encoding and the client.
pub(crate) fn text(input: &[u8], model: Option<&[u8]>) -> Result<Rc<MultiVector>, SqlError> {
    let text = to_utf8(input)?;
    let model = model.map(to_utf8).transpose()?;
    let key = cache::Key {
        identity: settings::identity(model.as_deref())?,
        text,
    };
    if let Some(embedding) = cache::get(&key) {
        return Ok(embedding);
    }
    let config = settings::config(key.identity.clone())?;
    let outcomes = CLIENT.embed_texts(&config, vec![key.text.clone()], &mut BackendWait)?;
    let embedding = Rc::new(single(outcomes)?);
    cache::put(key, Rc::clone(&embedding));
    Ok(embedding)
}

/// The embedding of one image.
///
/// # Errors
/// Those of the settings and the client.
pub(crate) fn image(bytes: &[u8], model: Option<&[u8]>) -> Result<Rc<MultiVector>, SqlError> {
    let model = model.map(to_utf8).transpose()?;
    let config = settings::config(settings::identity(model.as_deref())?)?;
    let outcomes = CLIENT.embed_images(&config, vec![bytes.to_vec()], &mut BackendWait)?;
    Ok(Rc::new(single(outcomes)?))
}

fn single(outcomes: Vec<Outcome>) -> Result<MultiVector, Error> {
    outcomes
        .into_iter()
        .next()
        .expect("the client answers every input")
}

/// One row per array element, in order; NULL elements give NULL rows.
fn rounds<'a>(
    inputs: Option<Array<'a, &'a [u8]>>,
    model: Option<&[u8]>,
    embed: impl FnMut(&Config, Vec<&[u8]>) -> Result<Vec<Outcome>, SqlError> + 'a,
) -> SetOfIterator<'a, Option<RealArray>> {
    let Some(inputs) = inputs else {
        return SetOfIterator::new(std::iter::empty());
    };
    let model = model.map(to_utf8).transpose();
    let config = model
        .and_then(|model| settings::identity(model.as_deref()))
        .and_then(settings::config)
        .unwrap_or_else(|error| error.raise());
    SetOfIterator::new(Rounds {
        inputs,
        config,
        embed,
        taken: 0,
        ready: VecDeque::new(),
    })
}

struct Rounds<'a, Embed> {
    inputs: Array<'a, &'a [u8]>,
    config: Config,
    embed: Embed,
    /// Elements of the array that are embedded already.
    taken: usize,
    ready: VecDeque<Option<MultiVector>>,
}

impl<Embed> Rounds<'_, Embed>
where
    Embed: FnMut(&Config, Vec<&[u8]>) -> Result<Vec<Outcome>, SqlError>,
{
    /// Embeds the next elements; leaves `ready` empty at the array's end.
    fn fill(&mut self) -> Result<(), SqlError> {
        let size = settings::inputs_per_round();
        // Skipping walks the array anew each round, which is nothing beside a round of requests.
        let round: Vec<Option<&[u8]>> = self.inputs.iter().skip(self.taken).take(size).collect();
        let present: Vec<&[u8]> = round.iter().copied().flatten().collect();
        let mut outcomes = match present.is_empty() {
            true => Vec::new(),
            false => (self.embed)(&self.config, present)?,
        }
        .into_iter();
        for (offset, input) in round.iter().enumerate() {
            let embedding = match input {
                None => None,
                Some(_) => {
                    let outcome = outcomes.next().expect("the client answers every input");
                    let position = self.taken + offset + 1;
                    Some(outcome.map_err(|error| SqlError::from(error).at_element(position))?)
                }
            };
            self.ready.push_back(embedding);
        }
        self.taken += round.len();
        Ok(())
    }
}

impl<Embed> Iterator for Rounds<'_, Embed>
where
    Embed: FnMut(&Config, Vec<&[u8]>) -> Result<Vec<Outcome>, SqlError>,
{
    type Item = Option<RealArray>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            self.fill().unwrap_or_else(|error| error.raise());
        }
        let embedding = self.ready.pop_front()?;
        Some(embedding.map(|embedding| RealArray::embedding(Rc::new(embedding))))
    }
}
