//! The fear: a house that nobody tidies. Limits on every file and function, unsafe code in few rooms, arrows that only
//! go down. A ratchet: a limit is never loosened to let a change pass.

use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

const FILE_LINES_MAX: usize = 800;
const FILE_LINES_MEDIAN: usize = 250;
const FRONT_DOOR_LINES_MAX: usize = 200;
const FUNCTION_LINES_MAX: usize = 70;
const FUNCTION_LINES_NINE_IN_TEN: usize = 30;
const FUNCTION_LINES_MEDIAN: usize = 10;
const LIMIT_LINES_MAX: usize = 100;

/// Where unsafe code may be: the library's three rooms, the bare limits, and tests that make bare system calls.
const UNSAFE_ROOMS: [&str; 6] =
    ["src/os/", "src/segment/", "src/sync/", "bench/limit.rs", "bench/limit/", "tests/faults/"];

/// The modules of the library from the ground up. An import goes down or stays on its floor; the two on the ground
/// know nothing of each other.
const FLOORS: [&[&str]; 7] =
    [&["os", "layout"], &["segment"], &["sync"], &["node"], &["message"], &["memory"], &["error"]];

/// A source file.
struct Source {
    /// From the root, with `/`.
    path: String,
    text: String,
    syntax: syn::File,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for directory in ["src", "crates", "bench", "tests", "examples"] {
        collect(&root().join(directory), &mut files);
    }
    assert!(files.len() > 50, "the sources are found");
    files.into_iter().map(source).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("the sources are readable") {
        let path = entry.expect("the sources are readable").path();
        match path.extension() {
            _ if path.is_dir() => collect(&path, files),
            Some(extension) if extension == "rs" => files.push(path),
            _ => {}
        }
    }
}

fn source(file: PathBuf) -> Source {
    let text = std::fs::read_to_string(&file).expect("sources are text");
    let path = file.strip_prefix(root()).expect("sources lie under the root").to_string_lossy().into_owned();
    let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    Source { path, text, syntax }
}

fn median(mut values: Vec<usize>) -> usize {
    values.sort_unstable();
    values[values.len() / 2]
}

/// What a walk through a file finds.
#[derive(Default)]
struct Findings {
    /// Name and lines, from the first word of the signature to the last brace.
    functions: Vec<(String, usize)>,
    unsafe_lines: Vec<usize>,
    /// Lines of unsafe functions that say no conditions.
    unexplained: Vec<usize>,
    /// First modules of paths that start with `crate`.
    imports: Vec<(String, usize)>,
}

impl Findings {
    fn of(source: &Source) -> Self {
        let mut findings = Self::default();
        findings.visit_file(&source.syntax);
        findings
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block, attributes: &[syn::Attribute]) {
        let lines = block.span().end().line - signature.span().start().line + 1;
        self.functions.push((signature.ident.to_string(), lines));
        if let Some(unsafety) = signature.unsafety {
            let line = unsafety.span().start().line;
            self.unsafe_lines.push(line);
            if !attributes.iter().any(|attribute| format!("{:?}", attribute.meta).contains("# Safety")) {
                self.unexplained.push(line);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Findings {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block, &item.attrs);
        visit::visit_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(unsafety) = item.unsafety {
            self.unsafe_lines.push(unsafety.span().start().line);
        }
        for part in &item.items {
            let syn::ImplItem::Fn(method) = part else { continue };
            let explained_by_trait = item.trait_.is_some();
            self.function(&method.sig, &method.block, &method.attrs);
            if explained_by_trait {
                self.unexplained.retain(|line| *line != method.sig.span().start().line);
            }
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.unsafe_lines.push(block.span().start().line);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_use_tree(&mut self, tree: &'ast syn::UseTree) {
        if let syn::UseTree::Path(path) = tree
            && path.ident == "crate"
        {
            let mut first = FirstNames::default();
            first.visit_use_tree(&path.tree);
            self.imports.extend(first.0.into_iter().map(|name| (name, path.span().start().line)));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let mut segments = path.segments.iter();
        if segments.next().is_some_and(|segment| segment.ident == "crate")
            && let Some(module) = segments.next()
        {
            self.imports.push((module.ident.to_string(), path.span().start().line));
        }
        visit::visit_path(self, path);
    }
}

/// The names with which the branches of an import begin.
#[derive(Default)]
struct FirstNames(Vec<String>);

impl<'ast> Visit<'ast> for FirstNames {
    fn visit_use_tree(&mut self, tree: &'ast syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => self.0.push(path.ident.to_string()),
            syn::UseTree::Name(name) => self.0.push(name.ident.to_string()),
            syn::UseTree::Rename(rename) => self.0.push(rename.ident.to_string()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.visit_use_tree(item)),
            syn::UseTree::Glob(_) => {}
        }
    }
}

#[test]
fn files_are_of_a_readable_length() {
    let lengths: Vec<(String, usize)> =
        sources().into_iter().map(|source| (source.path, source.text.lines().count())).collect();
    for (path, lines) in &lengths {
        assert!(*lines <= FILE_LINES_MAX, "{path} has {lines} lines");
        assert!(path != "src/lib.rs" || *lines <= FRONT_DOOR_LINES_MAX, "{path} has {lines} lines");
        let is_limit =
            matches!(path.as_str(), "bench/limit.rs" | "bench/limit/pool.rs" | "bench/limit/futex.rs");
        assert!(!is_limit || *lines <= LIMIT_LINES_MAX, "{path} has {lines} lines");
    }
    let median = median(lengths.into_iter().map(|(_, lines)| lines).collect());
    assert!(median <= FILE_LINES_MEDIAN, "the median file has {median} lines");
}

#[test]
fn functions_are_short() {
    let sources = sources();
    let of_file = |source: &Source| {
        let functions = Findings::of(source).functions.into_iter();
        let path = source.path.clone();
        functions.map(move |(name, lines)| (format!("{path}: {name}"), lines)).collect::<Vec<_>>()
    };
    let functions: Vec<(String, usize)> = sources.iter().flat_map(of_file).collect();
    for (name, lines) in &functions {
        assert!(*lines <= FUNCTION_LINES_MAX, "{name} has {lines} lines");
    }
    let mut lengths: Vec<usize> = functions.into_iter().map(|(_, lines)| lines).collect();
    lengths.sort_unstable();
    let nine_in_ten = lengths[lengths.len() * 9 / 10];
    assert!(
        nine_in_ten <= FUNCTION_LINES_NINE_IN_TEN,
        "one function in ten has more than {nine_in_ten} lines"
    );
    let median = median(lengths);
    assert!(median <= FUNCTION_LINES_MEDIAN, "the median function has {median} lines");
}

#[test]
fn unsafe_code_stays_in_its_rooms_and_is_proven() {
    for source in sources() {
        let findings = Findings::of(&source);
        let is_in_its_room = UNSAFE_ROOMS.iter().any(|room| source.path.starts_with(room));
        for line in &findings.unsafe_lines {
            assert!(is_in_its_room, "{}:{line}: unsafe code", source.path);
            assert!(has_proof(&source, *line), "{}:{line}: no SAFETY comment, no `# Safety`", source.path);
        }
        assert_eq!(
            findings.unexplained,
            Vec::<usize>::new(),
            "{}: unsafe functions without `# Safety`",
            source.path
        );
    }
}

/// Whether a comment above the line, with nothing but its own statement in between, proves it.
fn has_proof(source: &Source, line: usize) -> bool {
    let above: Vec<&str> = source.text.lines().take(line).collect();
    above.iter().rev().take(12).any(|line| line.contains("SAFETY:") || line.contains("# Safety"))
}

#[test]
fn imports_only_go_down() {
    let floor_of = |module: &str| FLOORS.iter().position(|floor| floor.contains(&module));
    for source in
        sources().iter().filter(|source| source.path.starts_with("src/") && source.path != "src/lib.rs")
    {
        let module = source.path["src/".len()..].split(['/', '.']).next().unwrap_or_default();
        let floor =
            floor_of(module).unwrap_or_else(|| panic!("{}: on which floor is `{module}`?", source.path));
        for (import, line) in Findings::of(source).imports.iter().filter(|(import, _)| import != module) {
            let is_known = floor_of(import);
            assert!(
                is_known.is_some_and(|below| below < floor),
                "{}:{line}: `{module}` uses `{import}`",
                source.path
            );
        }
    }
}

#[test]
fn the_layout_is_documented() {
    let page = std::fs::read_to_string(root().join("docs/layout.md")).expect("docs/layout.md exists");
    for source in sources().iter().filter(|source| source.path.starts_with("src/layout/")) {
        for item in &source.syntax.items {
            let name = match item {
                syn::Item::Const(constant) if constant.ident != "_" => constant.ident.to_string(),
                syn::Item::Struct(structure) => structure.ident.to_string(),
                _ => continue,
            };
            assert!(
                page.contains(&format!("`{name}`")),
                "docs/layout.md says nothing of `{name}` ({})",
                source.path
            );
        }
    }
}

#[test]
fn no_comment_postpones_anything() {
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat()];
    for source in sources() {
        for (line, text) in (1..).zip(source.text.lines()) {
            let postpones = words.iter().any(|word| text.contains(word.as_str()));
            assert!(!postpones, "{}:{line}: {text}", source.path);
        }
    }
}

#[test]
fn the_walk_sees_what_it_should() {
    let text = "use crate::{node::Node, sync};\nfn f() { unsafe { crate::os::g() } }\n";
    let syntax = syn::parse_file(text).expect("it is Rust");
    let findings = Findings::of(&Source { path: "x".into(), text: text.into(), syntax });
    assert_eq!(findings.functions, [("f".to_owned(), 1)]);
    assert_eq!(findings.unsafe_lines, [2]);
    let imports: Vec<&str> = findings.imports.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(imports, ["node", "sync", "os"]);
}
