//! A JSON request on its way to the model: what it asks for is read as it passes, and a stream is asked for its usage.
//!
//! Members that are read here must be said once: readers differ in which of two they take, and a key that is good for one
//! model must not get another past this one. Such a request never reaches its end at the upstream.
//!
//! `stream_options` is written where the client wrote it, or before the closing brace. While the upstream has seen nothing
//! of the request, its value waits until it is known whether a stream is asked for; after that it is decided where it
//! stands.
//!
//! Must not know how bytes come and go.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::{Map, Value as Json};

use crate::error::Refusal;
use crate::openai::access::{Models, Said};
use crate::openai::json::{Wanted, What};
use crate::openai::members::{Members, Value};
use crate::openai::most::{MOST_TOKENS, Most};

/// The longest value that is read, in bytes.
const LIMIT: usize = 4096;

const MODEL: usize = 0;
const STREAM: usize = 1;
const OPTIONS: usize = 2;
const BACKGROUND: usize = 3;
/// Where those begin that say how long an answer may be, those that say how many there may be to a prompt, those that have
/// the prompts (each of a list is answered), and what comes then.
const TOKENS: usize = 4;
const ANSWERS: usize = 7;
const PROMPTS: usize = 9;
const REST: usize = 11;
/// Where those begin by which an upstream may run another model than the one that is named: lists of further ones (OpenRouter,
/// LiteLLM), and what some merge into the request.
const DETOURS: usize = REST;
const ALL: usize = 14;

static WANTED: [Wanted; ALL] = [
    Wanted::top("model", LIMIT),
    Wanted::top("stream", 16),
    Wanted::top("stream_options", LIMIT),
    Wanted::top("background", 16),
    Wanted::top("max_tokens", 32),
    Wanted::top("max_completion_tokens", 32),
    Wanted::top("max_output_tokens", 32),
    Wanted::top("n", 32),
    Wanted::top("best_of", 32),
    Wanted::list("prompt"),
    Wanted::list("prompt_embeds"),
    Wanted::top("models", 16),
    Wanted::top("fallbacks", 16),
    Wanted::top("extra_body", 16),
];

/// A request that passes.
pub(crate) struct JsonRequest {
    members: Members<ALL>,
    /// Whether streams of this endpoint say their usage only if they are asked to.
    asks: bool,
    /// Nothing has left yet, so that what is in `out` can still change.
    waits: bool,
    options: Options,
    /// Whether usage was asked for on the client's behalf.
    asked: bool,
    /// How long an answer was set aside for, once that is so.
    promised: Option<Most>,
}

/// The bytes of `stream_options`' value.
enum Options {
    /// They pass, or have passed.
    Pass,
    /// They are kept back until the value is whole.
    Kept(Vec<u8>),
    /// It is whole; it stands at this place of `out`.
    Whole(usize),
}

impl JsonRequest {
    pub(crate) fn new(asks: bool) -> Self {
        let members = Members::new(&WANTED);
        Self { members, asks, waits: true, options: Options::Pass, asked: false, promised: None }
    }

    /// Takes the next bytes; what may go on is put into `out`.
    pub(crate) fn push(&mut self, bytes: &Bytes, out: &mut VecDeque<Bytes>) {
        // Up to where the bytes are in `out`; and up to where they were read.
        let (mut sent, mut at) = (0, 0);
        loop {
            let (taken, what) = self.members.step(bytes.get(at..).unwrap_or_default());
            let begin = at;
            at += taken;
            if let Options::Kept(kept) = &mut self.options {
                kept.extend_from_slice(bytes.get(begin..at).unwrap_or_default());
                sent = at;
                if kept.len() > LIMIT || what == What::Broken {
                    // Too long for what it should be: it passes as it is.
                    out.push_back(std::mem::take(kept).into());
                    self.options = Options::Pass;
                }
            }
            match what {
                What::More => break,
                What::Broken => {
                    at = bytes.len();
                    break;
                }
                What::Begins(OPTIONS) if self.asks => {
                    pass(bytes, &mut sent, at, out);
                    self.options = Options::Kept(Vec::new());
                }
                What::Ends(OPTIONS) => self.options_end(out),
                What::Closes if self.must_ask() => {
                    pass(bytes, &mut sent, at, out);
                    out.push_back(Bytes::from_static(
                        b",\"stream_options\":{\"include_usage\":true}",
                    ));
                    self.asked = true;
                }
                What::Begins(_) | What::Ends(_) | What::Closes => {}
            }
        }
        pass(bytes, &mut sent, at, out);
    }

    /// From now on, what is in `out` leaves.
    pub(crate) fn leave(&mut self, out: &mut VecDeque<Bytes>) {
        self.decide(out);
        self.waits = false;
    }

    /// No bytes follow.
    pub(crate) fn end(&mut self, out: &mut VecDeque<Bytes>) {
        if let Options::Kept(kept) = &mut self.options {
            out.push_back(std::mem::take(kept).into());
            self.options = Options::Pass;
        }
        self.decide(out);
    }

    /// What is wrong with it, as far as it has come.
    pub(crate) fn check(&self, models: &Models) -> Result<(), Refusal> {
        if let Some(name) = self.members.scanner().repeated().and_then(|at| WANTED.get(at)) {
            return Err(Refusal::Repeated(name.name));
        }
        if !models.are_limited() {
            return Ok(());
        }
        match self.model() {
            Said::Model(model) => models.admit(&model),
            Said::NotYet => Ok(()),
            Said::Unknown(why) => models.admit_unknown(why),
        }
    }

    /// What is wrong with it, now that it is over.
    pub(crate) fn check_whole(&self, models: &Models) -> Result<(), Refusal> {
        self.check(models)?;
        self.check_detours(models)?;
        self.check_countable(models)?;
        self.check_promise(models)?;
        if self.members.scanner().is_complete() && self.members.value(MODEL) != &Value::Absent {
            return Ok(());
        }
        models.admit_unknown("the body must be one JSON object with a \"model\"")
    }

    /// Refuses, for a key with a list, what may lead to a model that is not on it.
    fn check_detours(&self, models: &Models) -> Result<(), Refusal> {
        if !models.are_limited() || (DETOURS..ALL).all(|at| self.says(at, &[b"null", b"[]", b"{}"]))
        {
            return Ok(());
        }
        models.admit_unknown(
            "name one model in \"model\", without \"models\", \"fallbacks\" or \"extra_body\"",
        )
    }

    /// Whether a member is not there, or says one of these.
    fn says(&self, at: usize, allowed: &[&[u8]]) -> bool {
        match self.members.value(at) {
            Value::Absent => !self.members.scanner().has_mentioned(at),
            Value::Raw(raw) => allowed.contains(&raw.as_slice()),
            Value::TooLong => false,
        }
    }

    /// Refuses what other readers may take for a stream that says no usage, or for work whose usage is told elsewhere.
    fn check_countable(&self, models: &Models) -> Result<(), Refusal> {
        if !self.says(STREAM, &[b"true", b"false", b"null", b"0", b"1"]) {
            return models.admit_unknown("\"stream\" must be true or false");
        }
        if matches!(self.members.value(OPTIONS), Value::TooLong) {
            return models.admit_unknown("\"stream_options\" is too long");
        }
        if !self.says(BACKGROUND, &[b"false", b"null"]) {
            return models.admit_unknown(
                "what runs in the background is not counted: leave \"background\" out",
            );
        }
        Ok(())
    }

    /// Refuses what asks for more than what was set aside by its beginning, when the rest of it had not come.
    fn check_promise(&self, models: &Models) -> Result<(), Refusal> {
        let most = self.most();
        if self.promised.is_none_or(|promised| promised.covers(most)) {
            return Ok(());
        }
        models.admit_unknown(
            "say \"max_tokens\" and its like, \"n\" and \"best_of\" before what is long, and send a long list of prompts \
             in several requests",
        )
    }

    /// Its beginning was read: how long an answer is set aside for. What has not come may ask for the longest.
    pub(crate) fn promise(&mut self) -> Most {
        let most = self.most();
        let is_over = self.members.scanner().is_complete();
        let tokens = if is_over { most.tokens } else { most.tokens.or(Some(MOST_TOKENS)) };
        *self.promised.insert(Most { tokens, ..most })
    }

    /// What the request says of its model, up to here.
    fn model(&self) -> Said {
        let scanner = self.members.scanner();
        match self.members.value(MODEL) {
            _ if scanner.is_broken() => Said::Unknown("the body is not JSON, in UTF-8"),
            Value::Absent if !scanner.has_mentioned(MODEL) => Said::NotYet,
            _ if self.members.is_open_at(MODEL) => Said::NotYet,
            value => match value.read::<String>() {
                Some(model) => Said::Model(model),
                None if value == &Value::Absent && !scanner.is_complete() => Said::NotYet,
                None => Said::Unknown("\"model\" must be a string"),
            },
        }
    }

    /// The model that it names, whatever becomes of it.
    pub(crate) fn named(&self) -> Option<String> {
        self.members.value(MODEL).read()
    }

    /// How long it asks its answer to be, as far as it has come.
    pub(crate) fn most(&self) -> Most {
        let scanner = self.members.scanner();
        let is_elsewhere =
            |at: usize| self.members.value(at) == &Value::Absent && scanner.has_mentioned(at);
        let said = |at: usize| {
            let value = self.members.value(at);
            (!is_elsewhere(at) && !self.members.is_open_at(at)).then_some(value)
        };
        let prompts = (!(PROMPTS..REST).any(is_elsewhere)).then_some(scanner.items());
        Most::of((TOKENS..ANSWERS).map(said), (ANSWERS..PROMPTS).map(said), prompts)
    }

    /// Whether usage was asked for on the client's behalf.
    pub(crate) fn was_asked(&self) -> bool {
        self.asked
    }

    /// Whether its length may still change.
    pub(crate) fn may_grow(&self) -> bool {
        self.asks && !self.members.scanner().is_broken() && self.streams() != Some(false)
    }

    /// Whether a stream is asked for; `None` if that was not said yet. The 1 is a true of lenient readers.
    fn streams(&self) -> Option<bool> {
        let raw = self.members.value(STREAM).raw()?;
        (!self.members.is_open_at(STREAM)).then_some(matches!(raw, b"true" | b"1"))
    }

    fn must_ask(&self) -> bool {
        let mentioned = self.members.scanner().has_mentioned(OPTIONS);
        self.asks && !mentioned && self.streams() == Some(true)
    }

    fn options_end(&mut self, out: &mut VecDeque<Bytes>) {
        if let Options::Kept(kept) = &mut self.options {
            out.push_back(std::mem::take(kept).into());
            self.options = Options::Whole(out.len() - 1);
        }
        if !self.waits {
            self.decide(out);
        }
    }

    /// Writes the value of `stream_options`, if it is one that has to change.
    fn decide(&mut self, out: &mut VecDeque<Bytes>) {
        let Options::Whole(place) = self.options else { return };
        self.options = Options::Pass;
        let mut options = match (self.members.value(OPTIONS).read::<Json>(), self.streams()) {
            (Some(Json::Null), Some(true)) => Map::new(),
            // Beside no stream it is an error, or nothing, with and without usage in it.
            (Some(Json::Object(options)), None | Some(true)) => options,
            _ => return,
        };
        if options.get("include_usage") == Some(&Json::Bool(true)) {
            return;
        }
        options.insert("include_usage".to_owned(), Json::Bool(true));
        if let Some(value) = out.get_mut(place) {
            *value = Json::Object(options).to_string().into();
            self.asked = true;
        }
    }
}

/// Puts the bytes from `sent` to `at` into `out`.
fn pass(bytes: &Bytes, sent: &mut usize, at: usize, out: &mut VecDeque<Bytes>) {
    if *sent < at {
        out.push_back(bytes.slice(*sent..at));
        *sent = at;
    }
}
