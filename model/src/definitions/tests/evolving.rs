use super::*;

#[test]
fn definitions_evolve() {
    let old = parse(&with_view(REST));
    let same = Definitions::evolve(&old, &old).unwrap();
    assert_eq!(same, old);

    let new = parse(
        "[stream.quotes]\ntime = \"ts\"\n\
         [stream.trades]\ntime = \"ts\"\nkey = \"symbol\"\n[stream.trades.columns]\n\
         side = { scale = 0, optional = true }\nsize = { scale = 0 }\nprice = { scale = 4 }\n\
         [view.more]\nstream = \"trades\"\nwhere = \"side = 1\"\n\
         window = { tumbling = \"1m\" }\naggregates = [\"sum(size)\"]\n",
    );
    let merged = Definitions::evolve(&old, &new).unwrap();
    let names: Vec<_> = merged.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(names, ["trades", "quotes"]);
    let columns: Vec<_> = merged.streams[0].columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(columns, ["price", "size", "side"], "stored columns keep their order");
    assert_eq!(merged.views[0], old.views[0], "an added optional column changes no old view");
    let more = merged.view("more").unwrap();
    assert_eq!(more.filter, Some(Expr::Compare(2, Comparison::Eq, 1)));
    assert_eq!(more.aggregates[0].aggregate, Aggregate::Sum(1));
    assert_eq!(Definitions::evolve(&merged, &new).unwrap(), merged);
    assert_eq!(parse(&merged.to_toml()), merged);

    let other = "\n[view.other]\nstream = \"trades\"\nwindow = { tumbling = \"1m\" }\n\
                 aggregates = [\"sum(size)\"]\n";
    let two = parse(&(with_view(REST) + other));
    assert_eq!(Definitions::evolve(&old, &two).unwrap(), two);
    assert_eq!(Definitions::evolve(&two, &old).unwrap(), two, "what is known stays");
    assert_eq!(parse(&two.to_toml()), two);

    let changed = parse(&with_view(&REST.replace("1s", "2s")));
    let merged = Definitions::evolve(&old, &changed).unwrap();
    assert_eq!(merged, changed);
    assert_ne!(merged.views[0].definition, old.views[0].definition);

    let text = with_view("").split("[view").next().unwrap().to_string();
    let bounded = text.replace("scale = 4", "scale = 4, min = 0, max = 5, optional = true");
    for (old, new, message) in [
        (
            &text,
            text.replace("scale = 4", "scale = 5"),
            "stream \"trades\": the scale of \"price\" was 4 and is 5 now, but stored ticks keep the old one: restore it, or declare a new stream beside the old one",
        ),
        (
            &text,
            text.replace("\"symbol\"", "[\"symbol\", \"venue\"]"),
            "stream \"trades\": the key was [symbol] and is [symbol, venue] now, but stored ticks keep the old one: restore it, or declare a new stream beside the old one",
        ),
        (
            &text,
            text.replace("\"ts\"", "\"time\""),
            "stream \"trades\": the time column was \"ts\" and is \"time\" now, but stored ticks keep the old one: restore it, or declare a new stream beside the old one",
        ),
        (
            &text,
            text.replace(", size = { scale = 0 }", ""),
            "stream \"trades\": the column \"size\" ({ scale = 0 }) is missing now, but stored ticks have it: restore it",
        ),
        (
            &text,
            text.replace("price =", "x = { scale = 1 }, price ="),
            "stream \"trades\": the new column \"x\" ({ scale = 1 }) is not optional, but stored ticks have no value for it: add `optional = true`",
        ),
        (
            &bounded,
            bounded.replace("min = 0", "min = 1"),
            "stream \"trades\": the min of \"price\" was 0.0000 and is 1.0000 now, but stored ticks keep the old one: restore it, or declare a new stream beside the old one",
        ),
        (
            &bounded,
            bounded.replace("max = 5", "max = 4"),
            "stream \"trades\": the max of \"price\" was 5.0000 and is 4.0000 now, but stored ticks keep the old one: restore it, or declare a new stream beside the old one",
        ),
        (
            &bounded,
            bounded.replace(", optional = true", ""),
            "stream \"trades\": the `optional` of \"price\" was true and is false now, but stored ticks keep the old one: restore it, or declare a new stream beside the old one",
        ),
    ] {
        let error = Definitions::evolve(&parse(old), &parse(&new)).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let widened = bounded.replace("min = 0, max = 5", "min = -1, max = 6");
    assert_eq!(Definitions::evolve(&parse(&bounded), &parse(&widened)), Ok(parse(&widened)));
}

#[test]
fn a_closed_set_of_keys_is_read_written_and_grows() {
    let with = |key: &str, allowed: &str| {
        format!(
            "[stream.s]\ntime = \"ts\"\n{key}\n{allowed}\ncolumns = {{ a = {{ scale = 0 }} }}\n\
             [view.v]\nstream = \"s\"\nwindow = {{ tumbling = \"1s\" }}\naggregates = [\"count()\"]\n"
        )
    };
    let one = |allowed: &str| Definitions::parse(&with("key = \"k\"", allowed), "x");
    let open = one("").unwrap();
    assert_eq!(open.streams[0].keys_allowed, None);
    let two = one("keys_allowed = [\"B\", \"A\"]").unwrap();
    let keys = |texts: &[&str]| texts.iter().map(|text| Key::from_components([text])).collect();
    assert_eq!(two.streams[0].keys_allowed, Some(keys(&["A", "B"])));
    assert_eq!(parse(&two.to_toml()), two);
    assert_eq!(two.views[0].definition, open.views[0].definition, "no part of the hash");
    let pairs = with("key = [\"k\", \"l\"]", "keys_allowed = [[\"A\", \"x\"], [\"A\", \"y\"]]");
    let pairs = Definitions::parse(&pairs, "x").unwrap();
    let allowed = pairs.streams[0].keys_allowed.as_ref().unwrap();
    assert!(allowed.contains(&Key::from_components(["A", "y"])));
    assert!(!allowed.contains(&Key::from_components(["y", "A"])));
    assert_eq!(parse(&pairs.to_toml()), pairs);

    let three = one("keys_allowed = [\"A\", \"B\", \"C\"]").unwrap();
    assert_eq!(Definitions::evolve(&two, &three).unwrap(), three);
    assert_eq!(Definitions::evolve(&two, &open).unwrap(), open);
    let shrunk = Definitions::evolve(&three, &two).unwrap_err().to_string();
    assert!(shrunk.contains("the key \"C\" of `keys_allowed` was there"), "{shrunk}");
    let closed = Definitions::evolve(&open, &two).unwrap_err().to_string();
    assert!(closed.contains("`keys_allowed` was absent"), "{closed}");

    for (key, allowed, message) in [
        ("key = \"k\"", "keys_allowed = \"A\"".to_owned(), "is a list of keys"),
        ("key = \"k\"", "keys_allowed = []".into(), "is empty"),
        ("key = \"k\"", "keys_allowed = [1]".into(), "is no text"),
        ("key = [\"k\", \"l\"]", "keys_allowed = [\"A\"]".into(), "no list of one text"),
        ("key = [\"k\", \"l\"]", "keys_allowed = [[\"A\"]]".into(), "no list of one text"),
        ("", "keys_allowed = [\"A\"]".into(), "has no `key`"),
        ("key = \"k\"", format!("keys_allowed = [\"{}\"]", "k".repeat(5_000)), "longer"),
    ] {
        let error = Definitions::parse(&with(key, &allowed), "x").unwrap_err().to_string();
        assert!(error.contains("keys_allowed") && error.contains(message), "{error}");
    }
}
