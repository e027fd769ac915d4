//! Lines that start with `#`, the only text replacement there is. Used by the build script.
//!
//! `#import NAME` takes an include in, once, where it is first named. `#permute FLAG …` names the
//! flags of which a shader has every combination. `#if TERM && …` (a TERM is `FLAG` or `!FLAG`),
//! `#else` and `#endif` keep or drop lines, and `#define FLAG` sets a flag from there on.

use std::collections::{BTreeMap, BTreeSet};

/// The flags that a `#permute` line names, in its order.
pub fn permuted_flags(source: &str) -> Vec<String> {
    let lines = source.lines().filter_map(|line| line.strip_prefix("#permute "));
    lines.flat_map(|flags| flags.split_whitespace().map(str::to_owned)).collect()
}

/// The source under these flags. Fails on what it does not know, naming the file and line.
pub fn expand(
    file: &str,
    source: &str,
    includes: &BTreeMap<String, String>,
    flags: &[&str],
) -> Result<String, String> {
    let mut expansion = Expansion {
        includes,
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        seen: BTreeSet::new(),
        text: String::new(),
    };
    expansion.append(file, source)?;
    Ok(expansion.text)
}

struct Expansion<'a> {
    includes: &'a BTreeMap<String, String>,
    flags: BTreeSet<String>,
    seen: BTreeSet<String>,
    text: String,
}

impl Expansion<'_> {
    fn append(&mut self, file: &str, source: &str) -> Result<(), String> {
        // Of each `#if` that is open, whether its lines are kept.
        let mut open: Vec<bool> = Vec::new();
        for (index, line) in source.lines().enumerate() {
            let at = || format!("{file}:{}", index + 1);
            let kept = !open.contains(&false);
            let Some(directive) = line.strip_prefix('#') else {
                if kept {
                    self.text.push_str(line);
                    self.text.push('\n');
                }
                continue;
            };
            let (word, rest) = directive.split_once(' ').unwrap_or((directive, ""));
            match word {
                "if" => open.push(self.holds(rest)),
                "else" => {
                    let last = open.last_mut().ok_or_else(|| format!("{}: no #if", at()))?;
                    *last = !*last;
                }
                "endif" => {
                    open.pop().ok_or_else(|| format!("{}: no #if", at()))?;
                }
                "import" if kept => self.import(&at(), rest.trim())?,
                "define" if kept => _ = self.flags.insert(rest.trim().to_owned()),
                "permute" | "import" | "define" => {}
                _ => return Err(format!("{}: unknown directive '#{word}'", at())),
            }
        }
        if open.is_empty() { Ok(()) } else { Err(format!("{file}: #if without #endif")) }
    }

    fn holds(&self, condition: &str) -> bool {
        condition.split("&&").map(str::trim).all(|term| match term.strip_prefix('!') {
            Some(flag) => !self.flags.contains(flag),
            None => self.flags.contains(term),
        })
    }

    fn import(&mut self, at: &str, name: &str) -> Result<(), String> {
        let Some(include) = self.includes.get(name) else {
            let known: Vec<_> = self.includes.keys().map(String::as_str).collect();
            return Err(format!(
                "{at}: unknown import '{name}'; include/ has: {}",
                known.join(", ")
            ));
        };
        if self.seen.insert(name.to_owned()) {
            self.append(&format!("include/{name}.wgsl"), include)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn includes() -> BTreeMap<String, String> {
        [("a", "#import b\nfn a() {}\n"), ("b", "fn b() {}\n")]
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into()
    }

    fn expanded(source: &str, flags: &[&str]) -> Result<String, String> {
        expand("k.wgsl", source, &includes(), flags)
    }

    #[test]
    fn each_include_stands_once_before_its_use() {
        let text = expanded("#import a\n#import b\nfn k() {}", &[]).unwrap();
        assert_eq!(text, "fn b() {}\nfn a() {}\nfn k() {}\n");
    }

    #[test]
    fn an_unknown_import_names_file_line_and_choices() {
        let error = expanded("// k\n#import c\n", &[]).unwrap_err();
        assert_eq!(error, "k.wgsl:2: unknown import 'c'; include/ has: a, b");
    }

    #[test]
    fn flags_keep_and_drop_lines_and_imports() {
        let source = "#permute X Y\n#if X && !Y\n#define Z\n#import a\n#else\nelse\n#endif\n\
                      #if Z\nz\n#endif\n";
        assert_eq!(permuted_flags(source), ["X", "Y"]);
        assert_eq!(expanded(source, &["X"]).unwrap(), "fn b() {}\nfn a() {}\nz\n");
        assert_eq!(expanded(source, &["X", "Y"]).unwrap(), "else\n");
        assert_eq!(expanded(source, &[]).unwrap(), "else\n");
    }

    #[test]
    fn a_broken_directive_names_file_and_line() {
        assert_eq!(expanded("a\n#endif\n", &[]).unwrap_err(), "k.wgsl:2: no #if");
        assert_eq!(expanded("#if X\n", &[]).unwrap_err(), "k.wgsl: #if without #endif");
        assert_eq!(expanded("#iff X\n", &[]).unwrap_err(), "k.wgsl:1: unknown directive '#iff'");
    }
}
