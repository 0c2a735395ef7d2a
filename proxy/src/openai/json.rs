//! An incremental reader of one JSON object (RFC 8259) that finds a few of its members while the bytes pass by.
//!
//! It takes the text in pieces of any size, copies nothing but the values that were asked for, and needs the same memory
//! for a document of any length or depth. It is strict, so that nobody behind it can read another document out of the same
//! bytes: what it does not take for one JSON object, it gives up on, and says so. It never fails.
//!
//! Must not know what the members mean.

use memchr::memchr2;

/// A member to find.
pub(crate) struct Wanted {
    /// The member of the document whose value is the object that has it; `None`: the document itself has it.
    pub(crate) parent: Option<&'static str>,
    pub(crate) name: &'static str,
    /// The longest value that is kept, in bytes.
    pub(crate) limit: usize,
    /// Whether it is a list whose items are counted: [`Scanner::items`].
    is_list: bool,
}

impl Wanted {
    /// A member of the document itself.
    pub(crate) const fn top(name: &'static str, limit: usize) -> Self {
        Self { parent: None, name, limit, is_list: false }
    }

    /// A member of the document itself whose items are counted, and not kept.
    pub(crate) const fn list(name: &'static str) -> Self {
        Self { parent: None, name, limit: 0, is_list: true }
    }

    /// A member of an object in it.
    pub(crate) const fn of(parent: &'static str, name: &'static str, limit: usize) -> Self {
        Self { parent: Some(parent), name, limit, is_list: false }
    }
}

/// Levels of nesting whose kind is remembered, one bit each. Deeper documents are given up.
const DEEPEST: usize = 512;

/// The longest name that can be one of those wanted, escapes decoded.
const LONGEST_NAME: usize = 64;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The end of the input.
    More,
    /// The value of this wanted member begins with the next byte.
    Begins(usize),
    /// The value of this wanted member is over.
    Ends(usize),
    /// The next byte closes the document.
    Closes,
    /// This is not one JSON object. Nothing more is found.
    Broken,
}

/// Where in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Plain,
    Escape,
    /// `\u`, with digits left and those so far.
    Hex(u8, u32),
}

/// What must come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Value,
    /// A value, or the end of an empty array.
    FirstValue,
    Name,
    /// A name, or the end of an empty object.
    FirstName,
    InName(Text),
    /// A name that cannot be wanted where it stands.
    InOther(Text),
    Colon,
    InString(Text),
    InNumber,
    /// The rest of `true`, `false` or `null`.
    InLiteral(&'static [u8]),
    /// A comma, or the end of what is open.
    After,
    Done,
    Broken,
}

/// The reader.
pub(crate) struct Scanner {
    wanted: &'static [Wanted],
    state: State,
    depth: usize,
    /// One bit a level: whether it is an object.
    kinds: [u64; DEEPEST / 64],
    name: Vec<u8>,
    /// The name is longer than any that is wanted.
    name_too_long: bool,
    /// The member of the document that is being read, if it is a parent of wanted ones.
    parent: Option<&'static str>,
    /// Whose value comes next.
    next: Option<usize>,
    /// Whose value is being read, and the depth at which it stands.
    open: Option<(usize, usize)>,
    /// Of those that are lists.
    items: u32,
    /// The list that is being read has a number in it.
    has_numbers: bool,
    /// Which were mentioned, one bit each.
    mentioned: u32,
    repeated: Option<usize>,
    /// The closing brace was announced.
    announced: bool,
}

impl Scanner {
    /// For at most 32 members.
    pub(crate) fn new(wanted: &'static [Wanted]) -> Self {
        Self {
            wanted,
            state: State::Start,
            depth: 0,
            kinds: [0; DEEPEST / 64],
            name: Vec::new(),
            name_too_long: false,
            parent: None,
            next: None,
            open: None,
            items: 0,
            has_numbers: false,
            mentioned: 0,
            repeated: None,
            announced: false,
        }
    }

    /// Begins anew, with the memory that it has.
    pub(crate) fn reset(&mut self) {
        let name = std::mem::take(&mut self.name);
        *self = Self { name, ..Self::new(self.wanted) };
    }

    /// Whether one whole JSON object has been read and nothing but white space after it.
    pub(crate) fn is_complete(&self) -> bool {
        self.state == State::Done
    }

    /// Whether it was given up.
    pub(crate) fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// A wanted member that was mentioned twice, in whatever case: readers differ in which of them they take.
    pub(crate) fn repeated(&self) -> Option<usize> {
        self.repeated
    }

    /// The items of all wanted lists, as far as they have begun. What is no list is one item; so are the numbers of a list,
    /// all together.
    pub(crate) fn items(&self) -> u32 {
        self.items
    }

    /// Whether this wanted member was mentioned, in whatever case.
    pub(crate) fn has_mentioned(&self, wanted: usize) -> bool {
        self.mentioned & bit(wanted) != 0
    }

    /// Reads on, up to the first thing worth saying: how many bytes were taken, and what it is.
    pub(crate) fn step(&mut self, input: &[u8]) -> (usize, What) {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let plain = self.plain(rest);
            at += plain;
            let Some(&byte) = rest.get(plain) else { return (input.len(), What::More) };
            match self.take(byte) {
                Taken::Yes => at += 1,
                Taken::Ended(wanted) => return (at + 1, What::Ends(wanted)),
                Taken::EndedBefore(wanted) => return (at, What::Ends(wanted)),
                Taken::Again => {}
                Taken::Announce(what) => return (at, what),
                Taken::No => {
                    self.state = State::Broken;
                    return (at, What::Broken);
                }
            }
        }
    }

    /// How many of the next bytes change nothing here: by far the most of any document.
    fn plain(&mut self, rest: &[u8]) -> usize {
        let text = |rest| memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        match self.state {
            State::InString(Text::Plain) | State::InOther(Text::Plain) => text(rest),
            State::InName(Text::Plain) => {
                let length = text(rest);
                self.push(rest.get(..length).unwrap_or_default());
                length
            }
            State::InNumber => {
                rest.iter().position(|byte| !is_of_number(*byte)).unwrap_or(rest.len())
            }
            _ => 0,
        }
    }

    fn take(&mut self, byte: u8) -> Taken {
        let space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match self.state {
            State::InString(text) => match unread(text, byte) {
                Some(Some(text)) => {
                    self.state = State::InString(text);
                    Taken::Yes
                }
                Some(None) => self.end_value().map_or(Taken::Yes, Taken::Ended),
                None => Taken::No,
            },
            State::InOther(text) => match unread(text, byte) {
                Some(text) => {
                    self.state = text.map_or(State::Colon, State::InOther);
                    Taken::Yes
                }
                None => Taken::No,
            },
            State::InName(text) => self.take_name(text, byte),
            State::InNumber => self.end_value().map_or(Taken::Again, Taken::EndedBefore),
            State::InLiteral(rest) => match rest.split_first() {
                Some((expected, rest)) if *expected == byte => {
                    self.state = State::InLiteral(rest);
                    if rest.is_empty() {
                        return self.end_value().map_or(Taken::Yes, Taken::Ended);
                    }
                    Taken::Yes
                }
                _ => Taken::No,
            },
            State::Broken => Taken::No,
            _ if space => Taken::Yes,
            State::Start if byte == b'{' => self.open(true),
            State::Value | State::FirstValue => self.take_value(byte),
            State::Name | State::FirstName if byte == b'"' => {
                self.name.clear();
                self.name_too_long = false;
                let is_read = self.depth == 1 || (self.depth == 2 && self.parent.is_some());
                self.state =
                    if is_read { State::InName(Text::Plain) } else { State::InOther(Text::Plain) };
                Taken::Yes
            }
            State::FirstName if byte == b'}' => self.close(true),
            State::Colon if byte == b':' => {
                self.state = State::Value;
                Taken::Yes
            }
            State::After => match byte {
                b',' if self.is_object() => {
                    self.state = State::Name;
                    Taken::Yes
                }
                b',' => {
                    self.state = State::Value;
                    Taken::Yes
                }
                b'}' => self.close(true),
                b']' => self.close(false),
                _ => Taken::No,
            },
            State::Start | State::Name | State::FirstName | State::Colon | State::Done => Taken::No,
        }
    }

    fn take_value(&mut self, byte: u8) -> Taken {
        if byte == b']' && self.state == State::FirstValue {
            return self.close(false);
        }
        if let Some(wanted) = self.next.take() {
            self.open = Some((wanted, self.depth));
            self.has_numbers = false;
            return Taken::Announce(What::Begins(wanted));
        }
        self.count(byte);
        self.state = match byte {
            b'{' => return self.open(true),
            b'[' => return self.open(false),
            b'"' => State::InString(Text::Plain),
            b'-' | b'0'..=b'9' => State::InNumber,
            b't' => State::InLiteral(b"rue"),
            b'f' => State::InLiteral(b"alse"),
            b'n' => State::InLiteral(b"ull"),
            _ => return Taken::No,
        };
        Taken::Yes
    }

    /// A value begins with this byte: an item, if it is one.
    fn count(&mut self, byte: u8) {
        let Some((wanted, depth)) = self.open else { return };
        if !self.wanted.get(wanted).is_some_and(|wanted| wanted.is_list) {
            return;
        }
        let is_number = byte == b'-' || byte.is_ascii_digit();
        let is_item = match self.depth - depth {
            // A list is none, but what stands in the place of one is.
            0 => byte != b'[',
            1 if self.is_object() => false,
            1 => !(is_number && std::mem::replace(&mut self.has_numbers, true)),
            _ => false,
        };
        self.items = self.items.saturating_add(u32::from(is_item));
    }

    fn take_name(&mut self, text: Text, byte: u8) -> Taken {
        match (text, byte) {
            (Text::Plain, b'"') => {
                self.state = State::Colon;
                return self.named();
            }
            (Text::Plain, _) => self.state = State::InName(Text::Escape),
            _ => match escape(text, byte) {
                Some(Escaped::Goes(text)) => self.state = State::InName(text),
                Some(Escaped::Is(code)) => {
                    // What is not ASCII is in no name that is wanted: one byte stands for all of it.
                    let byte = u8::try_from(code).ok().filter(u8::is_ascii);
                    self.push(&[byte.unwrap_or(0x1a)]);
                    self.state = State::InName(Text::Plain);
                }
                None => return Taken::No,
            },
        }
        Taken::Yes
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = LONGEST_NAME - self.name.len();
        self.name.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
        self.name_too_long |= bytes.len() > room;
    }

    /// A name is over: is it wanted?
    fn named(&mut self) -> Taken {
        let parent = match self.depth {
            1 => None,
            2 if self.parent.is_some() => self.parent,
            _ => return Taken::Yes,
        };
        if self.depth == 1 {
            self.parent = None;
        }
        if self.name_too_long {
            return Taken::Yes;
        }
        // Some readers drop what is not UTF-8, and some end a name at a NUL.
        if self.name.contains(&0) || std::str::from_utf8(&self.name).is_err() {
            return Taken::No;
        }
        let here = |wanted: &Wanted| wanted.parent == parent;
        for (index, wanted) in self.wanted.iter().enumerate() {
            if here(wanted) && self.name.eq_ignore_ascii_case(wanted.name.as_bytes()) {
                if self.has_mentioned(index) {
                    self.repeated = Some(index);
                }
                self.mentioned |= bit(index);
                if self.name == wanted.name.as_bytes() {
                    self.next = Some(index);
                }
            }
            if let Some(parent) = wanted.parent
                && self.depth == 1
                && self.name == parent.as_bytes()
            {
                self.parent = Some(parent);
            }
        }
        Taken::Yes
    }

    fn open(&mut self, object: bool) -> Taken {
        let Some(word) = self.kinds.get_mut(self.depth / 64) else { return Taken::No };
        let mask = 1_u64 << (self.depth % 64);
        *word = if object { *word | mask } else { *word & !mask };
        self.depth += 1;
        self.state = if object { State::FirstName } else { State::FirstValue };
        if self.depth == 2 && !object {
            self.parent = None;
        }
        Taken::Yes
    }

    fn is_object(&self) -> bool {
        let Some(level) = self.depth.checked_sub(1) else { return false };
        self.kinds.get(level / 64).is_some_and(|word| word & (1 << (level % 64)) != 0)
    }

    fn close(&mut self, object: bool) -> Taken {
        if self.is_object() != object {
            return Taken::No;
        }
        if self.depth == 1 && !self.announced {
            self.announced = true;
            return Taken::Announce(What::Closes);
        }
        self.depth -= 1;
        self.end_value().map_or(Taken::Yes, Taken::Ended)
    }

    /// A value is over: the wanted one, if it was that.
    fn end_value(&mut self) -> Option<usize> {
        self.state = if self.depth == 0 { State::Done } else { State::After };
        let (wanted, depth) = self.open?;
        if depth != self.depth {
            return None;
        }
        self.open = None;
        Some(wanted)
    }
}

/// What became of a byte.
enum Taken {
    Yes,
    /// It was the last of a wanted value.
    Ended(usize),
    /// A wanted value ended before it; it is to be read again.
    EndedBefore(usize),
    /// It is to be read again.
    Again,
    /// It is to be read again, after this was said.
    Announce(What),
    /// It cannot stand here.
    No,
}

enum Escaped {
    Goes(Text),
    /// A UTF-16 code unit.
    Is(u32),
}

/// The next byte within an escape.
fn escape(text: Text, byte: u8) -> Option<Escaped> {
    let is = |byte: u8| Some(Escaped::Is(u32::from(byte)));
    match (text, byte) {
        (Text::Escape, b'"' | b'\\' | b'/') => is(byte),
        (Text::Escape, b'b') => is(8),
        (Text::Escape, b'f') => is(12),
        (Text::Escape, b'n') => is(b'\n'),
        (Text::Escape, b'r') => is(b'\r'),
        (Text::Escape, b't') => is(b'\t'),
        (Text::Escape, b'u') => Some(Escaped::Goes(Text::Hex(4, 0))),
        (Text::Hex(left, code), _) => {
            let code = code << 4 | char::from(byte).to_digit(16)?;
            Some(if left == 1 {
                Escaped::Is(code)
            } else {
                Escaped::Goes(Text::Hex(left - 1, code))
            })
        }
        _ => None,
    }
}

/// The next byte of a text whose content is of no matter: where it is then, `None` at its end.
fn unread(text: Text, byte: u8) -> Option<Option<Text>> {
    match (text, byte) {
        (Text::Plain, b'"') => Some(None),
        (Text::Plain, _) => Some(Some(Text::Escape)),
        _ => match escape(text, byte)? {
            Escaped::Goes(text) => Some(Some(text)),
            Escaped::Is(_) => Some(Some(Text::Plain)),
        },
    }
}

fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
}

fn bit(wanted: usize) -> u32 {
    u32::try_from(wanted).ok().and_then(|shift| 1_u32.checked_shl(shift)).unwrap_or(0)
}
