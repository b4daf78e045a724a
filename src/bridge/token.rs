//! Who may tell a URL: whoever has the token, which is in a file.

use std::fmt;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Fewer bytes can be guessed.
const SHORTEST: usize = 16;
/// More are no token, but some other file.
const LONGEST: u64 = 4096;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("the token's file {path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// What is in it is none.
    #[error(
        "the token in {0} is not between {SHORTEST} and {LONGEST} bytes of plain ASCII: \
         openssl rand -hex 32 makes a good one"
    )]
    Unfit(PathBuf),
}

/// The file with the token. It is read for each question, so that a new one counts at once.
#[derive(Debug, Clone)]
pub struct TokenFile(PathBuf);

/// A token. Nothing shows it.
pub struct Token(Zeroizing<Vec<u8>>);

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(hidden)")
    }
}

impl TokenFile {
    /// That file.
    ///
    /// # Errors
    /// When there is no token in it now.
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let file = Self(path.to_owned());
        file.read()?;
        Ok(file)
    }

    /// The token.
    ///
    /// # Errors
    /// When there is none in the file.
    pub fn read(&self) -> Result<Token, TokenError> {
        let in_file = |why| TokenError::File { path: self.0.clone(), why };
        let length = std::fs::metadata(&self.0).map_err(in_file)?.len();
        if length > LONGEST {
            return Err(TokenError::Unfit(self.0.clone()));
        }
        let text = Zeroizing::new(std::fs::read(&self.0).map_err(in_file)?);
        let token = Zeroizing::new(text.trim_ascii().to_vec());
        if token.len() < SHORTEST || !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::Unfit(self.0.clone()));
        }
        Ok(Token(token))
    }
}

impl Token {
    /// Whether that is the one, in a time that does not tell how much of it is right.
    #[must_use]
    pub fn is(&self, shown: &[u8]) -> bool {
        self.0.ct_eq(shown).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn read(text: &str) -> Result<Token, TokenError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        TokenFile::open(file.path())?.read()
    }

    #[test]
    fn the_token_is_all_of_it_and_nothing_else() {
        let token = read(&format!("{TOKEN}\n")).unwrap();
        assert!(token.is(TOKEN.as_bytes()));
        for other in ["", &TOKEN[1..], &TOKEN[..31], &TOKEN.to_uppercase(), &format!("{TOKEN}0")] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        assert!(!format!("{token:?}").contains(TOKEN));
    }

    #[test]
    fn an_empty_or_short_file_is_no_token() {
        for text in ["", "\n", "changeme", "two words that are long enough", &"a".repeat(5000)] {
            assert!(matches!(read(text), Err(TokenError::Unfit(_))), "{text}");
        }
        assert!(matches!(TokenFile::open(Path::new("/nowhere")), Err(TokenError::File { .. })));
    }
}
