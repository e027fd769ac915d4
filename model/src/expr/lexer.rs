//! Words of filters and aggregates.

use crate::error::{ExprError, ExprProblem};
use crate::expr::Comparison;

/// A word and the byte where it starts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) offset: usize,
    pub(crate) kind: TokenKind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    /// A plain word: a keyword or a name.
    Word(String),
    /// A name between backticks: never a keyword.
    Name(String),
    /// A number as written; its form is checked where its value is needed.
    Number(String),
    Text(String),
    Operator(Comparison),
    Open,
    Close,
    Comma,
    End,
}

impl TokenKind {
    /// For messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Name(name) => format!("`{}`", quote_name(name)),
            Self::Number(text) => format!("`{text}`"),
            Self::Text(text) => quote_text(text),
            Self::Operator(comparison) => format!("`{}`", comparison.symbol()),
            Self::Open => "`(`".into(),
            Self::Close => "`)`".into(),
            Self::Comma => "`,`".into(),
            Self::End => "the end".into(),
        }
    }
}

/// Cuts text into words; the last one is [`TokenKind::End`].
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, ExprError> {
    let mut tokens = Vec::new();
    let mut offset = 0;
    loop {
        let rest = text[offset..].trim_start();
        offset = text.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            tokens.push(Token { offset, kind: TokenKind::End });
            return Ok(tokens);
        };
        let (kind, length) = token(first, rest).map_err(|problem| ExprError { offset, problem })?;
        tokens.push(Token { offset, kind });
        offset += length;
    }
}

/// The word at the start of `rest` and its length in bytes.
fn token(first: char, rest: &str) -> Result<(TokenKind, usize), ExprProblem> {
    let second = rest[first.len_utf8()..].chars().next();
    let number_follows = second.is_some_and(|c| c.is_ascii_digit() || c == '.');
    Ok(match (first, second) {
        ('(', _) => (TokenKind::Open, 1),
        (')', _) => (TokenKind::Close, 1),
        (',', _) => (TokenKind::Comma, 1),
        ('=', Some('=')) => (TokenKind::Operator(Comparison::Eq), 2),
        ('=', _) => (TokenKind::Operator(Comparison::Eq), 1),
        ('!', Some('=')) | ('<', Some('>')) => (TokenKind::Operator(Comparison::Ne), 2),
        ('<', Some('=')) => (TokenKind::Operator(Comparison::Le), 2),
        ('<', _) => (TokenKind::Operator(Comparison::Lt), 1),
        ('>', Some('=')) => (TokenKind::Operator(Comparison::Ge), 2),
        ('>', _) => (TokenKind::Operator(Comparison::Gt), 1),
        ('\'' | '"', _) => {
            let (text, length) = quoted(first, rest)?;
            (TokenKind::Text(text), length)
        }
        ('`', _) => {
            let (name, length) = quoted(first, rest)?;
            (TokenKind::Name(name), length)
        }
        ('0'..='9' | '.', _) => number(rest),
        ('+' | '-', _) if number_follows => number(rest),
        (c, _) if is_word_start(c) => {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            (TokenKind::Word(rest[..length].into()), length)
        }
        (found, _) => return Err(ExprProblem::Character { found }),
    })
}

fn number(rest: &str) -> (TokenKind, usize) {
    let mut previous = 'e';
    let end = rest.find(|c: char| {
        let sign = matches!(c, '+' | '-') && matches!(previous, 'e' | 'E');
        previous = c;
        !(sign || c.is_alphanumeric() || c == '.' || c == '_')
    });
    let length = end.unwrap_or(rest.len());
    (TokenKind::Number(rest[..length].into()), length)
}

/// Text between quotes; the quote itself is written twice.
fn quoted(quote: char, rest: &str) -> Result<(String, usize), ExprProblem> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            text.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            text.push(quote);
        } else {
            return Ok((text, at + 1));
        }
    }
    Err(ExprProblem::Unterminated { quote })
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '.'
}

/// Words that mean something in filters.
const KEYWORDS: [&str; 8] = ["and", "or", "not", "in", "is", "null", "true", "false"];

/// A name as it is written in filters and aggregates: between backticks unless it is a plain word.
pub(crate) fn quote_name(name: &str) -> String {
    let plain = name.chars().next().is_some_and(is_word_start)
        && name.chars().all(is_word)
        && !KEYWORDS.iter().any(|keyword| name.eq_ignore_ascii_case(keyword));
    match plain {
        true => name.into(),
        false => format!("`{}`", name.replace('`', "``")),
    }
}

/// Text as it is written in filters.
pub(crate) fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
