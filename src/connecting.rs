//! How a command reaches a service: certificates, token, environment.

use std::fs;

use anyhow::{Context, Result, bail};
use isotick_client::{Authorities, Identity, Options, Token};

use crate::cli::ConnectArgs;

/// Where a token is taken from when none is on the command line.
const TOKEN_VARIABLE: &str = "ISOTICK_TOKEN";

impl ConnectArgs {
    /// Reads what the arguments name.
    pub fn options(&self) -> Result<Options> {
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some(Identity::from_pem_files(cert, key)?),
            _ => None,
        };
        Ok(Options {
            fingerprint: self.fingerprint.clone(),
            authorities: self.ca.as_ref().map(Authorities::from_pem_file).transpose()?,
            identity,
            token: self.token()?,
            ..Options::default()
        })
    }

    fn token(&self) -> Result<Token> {
        let text = match self.token.as_deref() {
            None => match std::env::var_os(TOKEN_VARIABLE) {
                None => return Ok(Token::default()),
                Some(text) => match text.into_string() {
                    Ok(text) => text,
                    Err(_) => bail!("{TOKEN_VARIABLE} is not UTF-8 text"),
                },
            },
            Some(text) => match text.strip_prefix('@') {
                None => text.to_owned(),
                Some(path) => fs::read_to_string(path)
                    .with_context(|| format!("cannot read the token in {path}"))?,
            },
        };
        // A file, or a shell's substitution, ends with a newline that is no part of it.
        Ok(Token::new(text.trim()))
    }
}
