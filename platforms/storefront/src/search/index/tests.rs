use super::*;

fn document(product_id: &str, name: &str, description: &str) -> Document {
    Document {
        product_id: product_id.into(),
        name: name.into(),
        brand: "Kestrel".into(),
        category: "Kitchen".into(),
        description: description.into(),
        price: Money::ZERO,
        currency: "USD".into(),
        in_stock: true,
    }
}

fn shop() -> Index {
    let mut index = Index::default();
    index.put(document("set", "Stoneware Tea Set", "A pot and four cups."));
    index.put(document(
        "towel",
        "Tea Towel",
        "Linen, for drying a teapot.",
    ));
    index.put(document("kettle", "Copper Kettle", "For tea and coffee."));
    index.put(document("knife", "Chef's Knife", "Steel."));
    index
}

fn ids(index: &Index, query: &str) -> Vec<String> {
    index
        .search(query, 10)
        .into_iter()
        .map(|(_, found)| found.product_id.clone())
        .collect()
}

#[test]
fn a_name_counts_more_than_a_description() {
    let found = ids(&shop(), "tea");
    assert_eq!(found.len(), 3);
    assert_eq!(found[2], "kettle");
}

#[test]
fn all_words_narrow_and_some_words_are_better_than_none() {
    assert_eq!(ids(&shop(), "tea towel"), ["towel"]);
    assert_eq!(ids(&shop(), "copper spaceship"), ["kettle"]);
    assert_eq!(ids(&shop(), "spaceship"), [""; 0]);
    assert_eq!(ids(&shop(), "  ,;"), [""; 0]);
}

#[test]
fn beginnings_find_words_and_whole_words_come_first() {
    assert_eq!(ids(&shop(), "kett"), ["kettle"]);
    assert_eq!(ids(&shop(), "CHEF"), ["knife"]);
    let mut index = shop();
    index.put(document("teapot", "Teapot", "Glazed."));
    let found = ids(&index, "tea");
    assert!(found.iter().position(|id| id == "teapot") > found.iter().position(|id| id == "set"));
}

#[test]
fn rare_words_count_more_than_common_ones() {
    let mut index = shop();
    for number in 0..20 {
        index.put(document(&format!("cup{number}"), "Cup", "Plain."));
    }
    index.put(document("rare", "Samovar Cup", "Plain."));
    index.put(document("both", "Cup Saucer", "Samovar."));
    assert_eq!(ids(&index, "samovar cup")[0], "rare");
}

#[test]
fn what_changed_is_found_by_its_new_words_only() {
    let mut index = shop();
    index.put(document("kettle", "Enamel Pan", "For soup."));
    assert_eq!(ids(&index, "copper"), [""; 0]);
    assert_eq!(ids(&index, "enamel"), ["kettle"]);
    let mut gone = document("set", "Stoneware Tea Set", "A pot and four cups.");
    gone.in_stock = false;
    index.put(gone);
    assert_eq!(ids(&index, "tea"), ["towel", "set"]);
}
