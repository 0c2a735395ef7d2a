//! The reference's command line, in the syntax of Go's `flag` package: one dash or two, `-name value` or `-name=value`,
//! and what is no flag ends the flags.

use crate::key_provider::WrapFile;

/// What the flags say. Each that is given more than once has its last value.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) base64: Option<String>,
    pub(super) log_level: Option<String>,
    pub(super) log_file: Option<String>,
    pub(super) port: Option<String>,
    pub(super) server_type: Option<String>,
    /// Taken and without effect: certificates always fit the report here, so there is nothing to force.
    pub(super) mismatched_tcb: bool,
    /// Wrapping instead of serving.
    pub(super) infile: Option<String>,
    pub(super) keypath: Option<String>,
    pub(super) outfile: Option<String>,
}

/// Why a command line is none. Values are never repeated.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FlagError {
    /// Somebody asked what there is.
    #[error("help requested")]
    Help,
    #[error("bad flag syntax")]
    Syntax,
    #[error("flag provided but not defined: -{0}")]
    NotDefined(String),
    #[error("flag needs an argument: -{0}")]
    NoValue(&'static str),
    #[error("invalid boolean value for -{0}")]
    NotBoolean(&'static str),
    #[error("-infile, -keypath and -outfile go together")]
    HalfAWrap,
}

/// What there is, as people are told.
pub(super) const USAGE: &str = "\
usage: skr [healthcheck] [flags]
  -base64 string        SkrSideCarArgs: JSON in standard base64
  -loglevel string      trace, debug, info, warning, error, fatal or panic (default \"warning\")
  -logfile string       append the log to this file; its folder must exist
  -port string          where on 127.0.0.1 to answer (default \"8080\")
  -server_type string   http or grpc (default: HTTP at the port, and gRPC at SKR_LISTEN)
  -allowTestingMismatchedTCB
                        taken, and without effect
  -infile string        wrap this file and end: with -keypath and -outfile
  -keypath string       KEYPATH-info.json describes the key to wrap with
  -outfile string       where the annotation is written, in base64
";

/// The longest name that an error repeats, in characters.
const LONGEST_NAME: usize = 64;

const BOOLEAN: &str = "allowTestingMismatchedTCB";

impl Flags {
    /// Reads the arguments after the program's name.
    pub(super) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, FlagError> {
        let mut flags = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let Some(flag) = argument.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
                break;
            };
            if flag == "-" {
                break;
            }
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            if flag.is_empty() || flag.starts_with(['-', '=']) {
                return Err(FlagError::Syntax);
            }
            let (name, value) =
                flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            if name == BOOLEAN {
                flags.mismatched_tcb = boolean(value.unwrap_or("true"))?;
                continue;
            }
            let (known, place) = flags.place(name)?;
            let value = value.map(ToOwned::to_owned).or_else(|| arguments.next());
            *place = Some(value.ok_or(FlagError::NoValue(known))?);
        }
        Ok(flags)
    }

    /// What is to be wrapped, if that is what the flags say.
    pub(super) fn wrap(&self) -> Result<Option<WrapFile>, FlagError> {
        match (&self.infile, &self.keypath, &self.outfile) {
            (None, None, None) => Ok(None),
            (Some(infile), Some(keypath), Some(outfile)) => Ok(Some(WrapFile {
                infile: infile.into(),
                keypath: keypath.into(),
                outfile: outfile.into(),
            })),
            _ => Err(FlagError::HalfAWrap),
        }
    }

    fn place(&mut self, name: &str) -> Result<(&'static str, &mut Option<String>), FlagError> {
        match name {
            "base64" => Ok(("base64", &mut self.base64)),
            "loglevel" => Ok(("loglevel", &mut self.log_level)),
            "logfile" => Ok(("logfile", &mut self.log_file)),
            "port" => Ok(("port", &mut self.port)),
            "server_type" => Ok(("server_type", &mut self.server_type)),
            "infile" => Ok(("infile", &mut self.infile)),
            "keypath" => Ok(("keypath", &mut self.keypath)),
            "outfile" => Ok(("outfile", &mut self.outfile)),
            "h" | "help" => Err(FlagError::Help),
            other => Err(FlagError::NotDefined(other.chars().take(LONGEST_NAME).collect())),
        }
    }
}

/// As Go's `strconv.ParseBool` reads it.
fn boolean(text: &str) -> Result<bool, FlagError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(FlagError::NotBoolean(BOOLEAN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, FlagError> {
        Flags::parse(line.split(' ').filter(|word| !word.is_empty()).map(ToOwned::to_owned))
    }

    #[test]
    fn flags_are_written_as_before() {
        let all = "-base64 e30= --loglevel=debug -logfile=/l -port 1 --port 2 --server_type grpc \
                   -allowTestingMismatchedTCB";
        let text = |text: &str| Some(text.to_owned());
        let expected = Flags {
            base64: text("e30="),
            log_level: text("debug"),
            log_file: text("/l"),
            port: text("2"),
            server_type: text("grpc"),
            mismatched_tcb: true,
            ..Flags::default()
        };
        assert_eq!(parse(all), Ok(expected));
        assert_eq!(parse(""), Ok(Flags::default()));
        assert_eq!(parse("-port -7").unwrap().port, text("-7"), "whatever comes next is the value");
        assert_eq!(parse("-base64=a=b=").unwrap().base64, text("a=b="));
        for ended in ["-port 1 - -nonsense", "-port 1 -- -nonsense", "-port 1 word -nonsense"] {
            assert_eq!(parse(ended).unwrap().port, text("1"), "{ended}");
        }
        let off = parse("-allowTestingMismatchedTCB -allowTestingMismatchedTCB=F").unwrap();
        assert!(!off.mismatched_tcb);
    }

    #[test]
    fn mistakes_are_named_without_values() {
        let not_defined = FlagError::NotDefined("prt".to_owned());
        for (line, error) in [
            ("-prt=secret", not_defined),
            ("-base64", FlagError::NoValue("base64")),
            ("---port 1", FlagError::Syntax),
            ("-=1", FlagError::Syntax),
            ("-allowTestingMismatchedTCB=secret", FlagError::NotBoolean(BOOLEAN)),
            ("-h", FlagError::Help),
            ("--help", FlagError::Help),
        ] {
            assert!(!error.to_string().contains("secret"));
            assert_eq!(parse(line), Err(error), "{line}");
        }
    }
}
