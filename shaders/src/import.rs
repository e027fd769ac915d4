//! `#import NAME` lines: the only text replacement there is. Used by the build script.

use std::collections::BTreeMap;

/// The source with every `#import NAME` line replaced by that include, each include once, where it
/// is first named. Fails on an unknown name, naming the file and line.
pub fn expand(
    file: &str,
    source: &str,
    includes: &BTreeMap<String, String>,
) -> Result<String, String> {
    let mut expanded = String::new();
    append(file, source, includes, &mut Vec::new(), &mut expanded)?;
    Ok(expanded)
}

fn append(
    file: &str,
    source: &str,
    includes: &BTreeMap<String, String>,
    seen: &mut Vec<String>,
    expanded: &mut String,
) -> Result<(), String> {
    for (index, line) in source.lines().enumerate() {
        let Some(name) = line.strip_prefix("#import ").map(str::trim) else {
            expanded.push_str(line);
            expanded.push('\n');
            continue;
        };
        if seen.iter().any(|other| other == name) {
            continue;
        }
        let Some(include) = includes.get(name) else {
            let known: Vec<_> = includes.keys().map(String::as_str).collect();
            return Err(format!(
                "{file}:{}: unknown import '{name}'; include/ has: {}",
                index + 1,
                known.join(", ")
            ));
        };
        seen.push(name.to_owned());
        append(&format!("include/{name}.wgsl"), include, includes, seen, expanded)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn includes() -> BTreeMap<String, String> {
        [("a", "#import b\nfn a() {}\n"), ("b", "fn b() {}\n")]
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into()
    }

    #[test]
    fn each_include_stands_once_before_its_use() {
        let expanded = expand("k.wgsl", "#import a\n#import b\nfn k() {}", &includes()).unwrap();
        assert_eq!(expanded, "fn b() {}\nfn a() {}\nfn k() {}\n");
    }

    #[test]
    fn an_unknown_import_names_file_line_and_choices() {
        let error = expand("k.wgsl", "// k\n#import c\n", &includes()).unwrap_err();
        assert_eq!(error, "k.wgsl:2: unknown import 'c'; include/ has: a, b");
    }
}
