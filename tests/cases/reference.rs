//! docs/reference.md and the catalogue say the same, in both directions: what is there is on the page as it is, and what the page has is there.

use autoembed_tests::page::{Page, Table, code};
use autoembed_tests::{Db, Site};
use std::collections::{BTreeMap, BTreeSet};

mod codes;
mod settings;
mod signature;

use signature::Signature;

pub fn page() -> Page {
    Page::read("docs/reference.md", include_str!("../../docs/reference.md"))
}

/// What both sides have by name, compared; each difference is told with both texts.
pub fn assert_same(what: &str, on_page: &BTreeMap<String, String>, there: &BTreeMap<String, String>) {
    let names: BTreeSet<&String> = on_page.keys().chain(there.keys()).collect();
    let differences: Vec<String> = names
        .into_iter()
        .filter(|name| on_page.get(*name) != there.get(*name))
        .map(|name| {
            let side =
                |side: &BTreeMap<String, String>| side.get(name).map_or("(not there)", String::as_str).to_owned();
            format!("{name}\n  the page:   {}\n  the server: {}", side(on_page), side(there))
        })
        .collect();
    assert!(!there.is_empty(), "the server has no {what}");
    assert!(differences.is_empty(), "{} {what} differ:\n{}", differences.len(), differences.join("\n"));
}

/// The functions of the page by name, in the words of the server; those that `enable()` makes for a table are not among them.
fn functions_on_page(db: &mut Db) -> BTreeMap<String, String> {
    let page = page();
    let signatures =
        page.blocks.iter().filter(|block| block.language.is_empty()).flat_map(|block| Signature::all(&block.text));
    let mut found = BTreeMap::new();
    for signature in signatures.filter(|signature| !signature.name.starts_with("similar_")) {
        let name = signature.name.clone();
        assert!(found.insert(name, signature.as_the_server_has_it(db)).is_none(), "{} is there twice", signature.name);
    }
    found
}

/// With names, types and defaults of arguments, and what they give.
#[test]
fn functions() {
    let mut site = Site::new();
    let there = "SELECT p.proname, concat('(', (SELECT string_agg(concat_ws(' ', a.name, a.type::regtype::text), ', ' ORDER BY a.n)
               FROM unnest(p.proargnames, p.proargtypes::oid[]) WITH ORDINALITY a (name, type, n) WHERE a.type IS NOT NULL), ') -> ',
            CASE WHEN p.proretset THEN 'setof ' END, COALESCE('(' || (SELECT string_agg(concat_ws(' ', o.name, o.type::regtype::text), ', ' ORDER BY o.n)
               FROM unnest(p.proargnames, p.proallargtypes, p.proargmodes) WITH ORDINALITY o (name, type, mode, n) WHERE o.mode = 'o') || ')', p.prorettype::regtype::text))
        FROM pg_proc p WHERE p.pronamespace = 'autoembed'::regnamespace ORDER BY 1";
    let mut server: BTreeMap<String, String> = site.db.rows(there).into_iter().map(|row| pair(&row)).collect();
    for (name, defaults) in defaults(&mut site.db) {
        server.get_mut(&name).unwrap().push_str(&defaults);
    }
    assert_same("functions", &functions_on_page(&mut site.db), &server);
}

/// The values of the defaults of each function, by the server's own reckoning.
fn defaults(db: &mut Db) -> BTreeMap<String, String> {
    let all = "SELECT p.proname, pg_get_function_arg_default(p.oid, a.n::int), a.type::regtype::text
        FROM pg_proc p CROSS JOIN LATERAL unnest(p.proargtypes::oid[]) WITH ORDINALITY a (type, n)
        WHERE p.pronamespace = 'autoembed'::regnamespace ORDER BY p.proname, a.n";
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for row in db.rows(all) {
        let (name, kind) = (row[0].clone().unwrap(), row[2].clone().unwrap());
        let value = signature::value(db, row[1].as_deref(), &kind);
        found.entry(name).or_default().push_str(&value);
    }
    found
}

fn pair(row: &[Option<String>]) -> (String, String) {
    (row[0].clone().unwrap_or_default(), row[1].clone().unwrap_or_default())
}

/// What anybody but superusers may read: its columns in their order, with their types.
#[test]
fn views_and_tables() {
    let mut site = Site::new();
    let readable = "SELECT c.relname, string_agg(concat_ws(' ', a.attname, a.atttypid::regtype::text), ', ' ORDER BY a.attnum)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'autoembed'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')
          AND EXISTS (SELECT FROM aclexplode(c.relacl) x WHERE x.privilege_type = 'SELECT' AND x.grantee <> c.relowner) GROUP BY 1";
    let there: BTreeMap<String, String> = site.db.rows(readable).iter().map(|row| pair(row)).collect();
    let page = page();
    let mut on_page = BTreeMap::new();
    for table in page.tables.iter().filter(|table| table.head == ["column", "type", "meaning"]) {
        let relation = table.section.strip_prefix("the-table-").unwrap_or(&table.section);
        let relation = relation.split('-').next().unwrap().to_owned();
        let columns: Vec<String> = table.rows.iter().flat_map(|row| columns(&mut site.db, table, row)).collect();
        assert!(on_page.insert(relation, columns.join(", ")).is_none(), "line {}: twice", table.line);
    }
    assert_same("views and tables", &on_page, &there);
}

/// The columns of a row, which may have several: `a`, `b` | int, text |, or | int | where that is the type of all.
fn columns(db: &mut Db, table: &Table, row: &[String]) -> Vec<String> {
    let names: Vec<&str> = code(&row[0]).collect();
    let mut types: Vec<&str> = row[1].split(", ").collect();
    if types.len() == 1 {
        types = vec![types[0]; names.len()];
    }
    assert!(!names.is_empty() && names.len() == types.len(), "line {}: {row:?}", table.line);
    let of_server = |db: &mut Db, kind: &str| db.text(&format!("SELECT '{kind}'::regtype"));
    names.iter().zip(types).map(|(name, kind)| format!("{name} {}", of_server(db, kind))).collect()
}

/// The tables that superusers alone read are named, with what they are for.
#[test]
fn tables_of_its_own() {
    let mut site = Site::new();
    let hidden = "SELECT c.relname, '' FROM pg_class c WHERE c.relnamespace = 'autoembed'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p', 'S')
        AND (c.relkind <> 'S' OR NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'i'))
        AND NOT EXISTS (SELECT FROM aclexplode(c.relacl) x WHERE x.privilege_type = 'SELECT' AND x.grantee <> c.relowner)";
    let there: BTreeMap<String, String> = site.db.rows(hidden).iter().map(|row| pair(row)).collect();
    let page = page();
    let table = page.table("tables-of-its-own", &[]).expect("a table of tables");
    let on_page =
        table.rows.iter().flat_map(|row| code(&row[0])).map(|name| (name.to_owned(), String::new())).collect();
    assert_same("tables of its own", &on_page, &there);
}

/// The tables of arguments have each argument once, in any order.
#[test]
fn arguments() {
    let mut site = Site::new();
    let page = page();
    for (function, elsewhere) in [("create_model", &["options"][..]), ("enable", &[])] {
        let names =
            format!("SELECT unnest(proargnames) FROM pg_proc WHERE oid::regproc = 'autoembed.{function}'::regproc");
        let there: BTreeSet<String> =
            site.db.column(&names).into_iter().filter(|name| !elsewhere.contains(&name.as_str())).collect();
        let table = page.tables.iter().find(|table| table.section == function && table.head[0] == "argument");
        let rows = &table.unwrap_or_else(|| panic!("{function} has no table of arguments")).rows;
        let named: Vec<String> = rows.iter().flat_map(|row| code(&row[0])).map(str::to_owned).collect();
        assert_eq!(named.len(), there.len(), "{function}: {named:?}");
        assert_eq!(named.into_iter().collect::<BTreeSet<_>>(), there, "{function}");
    }
}

/// The search functions of the page, of a table with and without chunks.
#[test]
fn search_functions() {
    let mut site = Site::new();
    site.db.run(
        "CREATE TABLE docs (id bigint PRIMARY KEY, body text); CREATE TABLE pages (id bigint PRIMARY KEY, body text)",
    );
    site.enable("docs", "body", "");
    site.enable("pages", "body", "chunk_size => 64");
    let of_the_server = |db: &mut Db, name: &str| {
        let sql =
            format!("SELECT pg_get_function_arguments('{name}'::regproc), pg_get_function_result('{name}'::regproc)");
        let row = db.rows(&sql).remove(0);
        (row[0].clone().unwrap(), row[1].clone().unwrap())
    };
    let page = page();
    let said: Vec<Signature> = page.blocks_of("search").flat_map(|block| Signature::all(&block.text)).collect();
    let [similar, similar_to, in_chunks] = &said[..] else { panic!("{said:#?}") };
    let (arguments, result) = of_the_server(&mut site.db, "similar_docs");
    assert_eq!(similar.parameters_as_the_server_writes_them(&mut site.db), arguments);
    assert_eq!(similar.result.replace("key columns..., text", "id bigint, body text"), result.replace("TABLE", ""));
    let (arguments, _) = of_the_server(&mut site.db, "similar_docs_to");
    let (inout, rest): (Vec<&str>, Vec<&str>) = arguments.split(", ").partition(|one| one.contains("OUT "));
    assert_eq!(inout, ["INOUT id bigint", "OUT body text", "OUT similarity real"]);
    assert_eq!(
        similar_to.parameters_as_the_server_writes_them(&mut site.db),
        format!("key columns..., {}", rest.join(", "))
    );
    let (_, result) = of_the_server(&mut site.db, "similar_pages");
    assert_eq!(
        in_chunks.result.replace("key columns...", "id bigint").replace(" int", " integer"),
        result.replace("TABLE", "")
    );
}
