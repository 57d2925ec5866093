//! The structure of `src/`: modules use only those below them, and no siblings use each other in a
//! circle. Every path is read that begins with `crate`, `super`, `self` or `losparse`, wherever it
//! stands, and followed through re-exports to the file that it names. Test code is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The modules of the crate from highest to lowest, as CONTRIBUTING lists them. Each uses only those
/// after it.
const ORDER: [&str; 24] = [
    "prelude",
    "cli",
    "study",
    "train",
    "plots",
    "inspect",
    "tasks",
    "models",
    "generation",
    "checkpoint",
    "pruning",
    "compact",
    "decompose",
    "quantize",
    "bench",
    "linear",
    "ops",
    "optim",
    "kernels",
    "precision",
    "device",
    "random",
    "files",
    "error",
];

/// Path of a module: `["train", "job"]`.
type Module = Vec<String>;

/// The source files by module, with the paths in each.
struct Source {
    files: BTreeMap<Module, String>,
    paths: BTreeMap<Module, BTreeSet<Module>>,
    /// Re-exports of a module: `train::Recipe` is `train::recipe::Recipe`.
    exports: BTreeMap<(Module, String), Module>,
}

impl Source {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = BTreeMap::new();
        list(&root, &root, &mut files);
        let mut source = Self { files, paths: BTreeMap::new(), exports: BTreeMap::new() };
        for (module, file) in &source.files {
            let text = code(&fs::read_to_string(root.join(file)).unwrap());
            for path in paths(&text) {
                let path = source.absolute(module, &path);
                source.paths.entry(module.clone()).or_default().insert(path);
            }
            for (path, name) in exports(&text) {
                let path = source.absolute(module, &path);
                source.exports.insert((module.clone(), name), path);
            }
        }
        source
    }

    /// A path from the crate's root.
    fn absolute(&self, module: &Module, path: &[String]) -> Module {
        let up = path.iter().take_while(|part| *part == "super").count();
        match path[0].as_str() {
            "crate" | "losparse" => path[1..].to_vec(),
            "self" => [module, &path[1..]].concat(),
            "super" => [&module[..module.len() - up], &path[up..]].concat(),
            _ => [module, path].concat(),
        }
    }

    /// The module that defines what a path names.
    fn defining(&self, path: &Module) -> Module {
        let mut module = Module::new();
        for (at, part) in path.iter().enumerate() {
            let child = [module.as_slice(), std::slice::from_ref(part)].concat();
            if self.files.contains_key(&child) {
                module = child;
            } else if let Some(target) = self.exports.get(&(module.clone(), part.clone()))
                && target != path
            {
                return self.defining(&[target, &path[at + 1..]].concat());
            } else {
                break;
            }
        }
        module
    }

    /// Every use of one module by another.
    fn arrows(&self) -> BTreeSet<(&Module, Module)> {
        let all = self.paths.iter().flat_map(|(module, paths)| {
            paths.iter().map(move |path| (module, self.defining(path)))
        });
        all.filter(|(from, to)| !from.is_empty() && !to.is_empty()).collect()
    }
}

/// Lists the source files in `folder`, but for those of tests.
fn list(root: &Path, folder: &Path, files: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        if path.is_dir() {
            list(root, &path, files);
        } else if let Some(name) = file.strip_suffix(".rs")
            && !name.ends_with("tests")
            && name != "main"
        {
            let mut module: Module = name.split('/').map(String::from).collect();
            if ["mod", "lib"].contains(&module.last().unwrap().as_str()) {
                module.pop();
            }
            files.insert(module, file);
        }
    }
}

/// Rust without comments, the contents of strings, and items for tests.
fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        at += match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['\'', '\\', ..] => 3 + rest[3..].iter().position(|c| *c == '\'').unwrap(),
            ['\'', _, '\'', ..] => 3,
            ['r', '#', '"', ..] => {
                let end = rest.windows(2).skip(3).position(|pair| *pair == ['"', '#']);
                3 + end.unwrap() + 2
            }
            ['"', ..] => {
                let mut end = 1;
                while rest[end] != '"' {
                    end += if rest[end] == '\\' { 2 } else { 1 };
                }
                end + 1
            }
            [c, ..] => {
                out.push(*c);
                1
            }
            [] => 1,
        };
    }
    while let Some(start) = out.find("#[cfg(test)]").or_else(|| out.find("#[cfg(all(test")) {
        let (mut end, mut depth) = (start, 0);
        for c in out[start..].chars() {
            end += c.len_utf8();
            match c {
                '{' | '[' | '(' => depth += 1,
                '}' | ']' | ')' => depth -= 1,
                _ => {}
            }
            if depth == 0 && (c == ';' || c == '}') {
                break;
            }
        }
        out.replace_range(start..end, "");
    }
    out
}

/// Words and punctuation; `::` is one.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut word = false;
    for c in text.chars() {
        let part = c.is_alphanumeric() || c == '_';
        match tokens.last_mut() {
            Some(last) if part && word => last.push(c),
            Some(last) if c == ':' && last == ":" => last.push(c),
            _ if c.is_whitespace() => {}
            _ => tokens.push(c.to_string()),
        }
        word = part;
    }
    tokens
}

/// Every path that begins at a module of the crate.
fn paths(text: &str) -> Vec<Module> {
    let tokens = tokens(text);
    let mut all = Vec::new();
    for at in 0..tokens.len() {
        let begins = ["crate", "super", "self", "losparse"].contains(&tokens[at].as_str());
        if begins && (at == 0 || tokens[at - 1] != "::") {
            tree(&tokens[at..], &[], &mut all);
        }
    }
    all.into_iter().map(|(path, _)| path).filter(|path| path.len() > 1).collect()
}

/// Every public import: its path and its name.
fn exports(text: &str) -> Vec<(Module, String)> {
    let mut all = Vec::new();
    for statement in text.split(';') {
        let tokens = tokens(statement);
        let Some(at) = tokens.iter().rposition(|token| token == "use") else { continue };
        tree(&tokens[at + 1..], &[], &mut all);
    }
    all
}

/// Reads a tree of paths, as in `a::{b, c as d}`; returns the number of tokens read.
fn tree(tokens: &[String], prefix: &[String], all: &mut Vec<(Module, String)>) -> usize {
    let mut path = prefix.to_vec();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        if token == "{" {
            while tokens.get(at).is_some_and(|token| token != "}") {
                at += tree(&tokens[at..], &path, all);
                at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
            }
            return at + 1;
        }
        if token != "self" || path.is_empty() {
            path.push(token.clone());
        }
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if tokens.get(at).is_some_and(|token| token == "as") {
        name.clone_from(&tokens[at + 1]);
        at += 2;
    }
    all.push((path, name));
    at
}

#[test]
fn contributing_lists_the_modules_in_this_order() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("CONTRIBUTING.md");
    let text = fs::read_to_string(file).unwrap();
    let diagram = text.split("```").nth(1).unwrap();
    let names = diagram.lines().skip(1).filter_map(|line| line.split([' ', ',']).next());
    assert_eq!(names.filter(|name| !name.is_empty()).collect::<Vec<_>>(), ORDER);
}

#[test]
fn modules_use_only_those_below_them() {
    let source = Source::read();
    let place = |module: &Module| {
        let place = ORDER.iter().position(|name| *name == module[0]);
        place.unwrap_or_else(|| panic!("module {} has no place in the order", module[0]))
    };
    let arrows = source.arrows();
    let upward = arrows.iter().filter(|(from, to)| place(to) < place(from));
    let found: BTreeSet<(&str, &str)> =
        upward.map(|(from, to)| (source.files[*from].as_str(), to[0].as_str())).collect();
    assert!(found.is_empty(), "these files use a module above their own: {found:?}");
}

#[test]
fn no_siblings_use_each_other_in_a_circle() {
    let source = Source::read();
    let mut uses: BTreeMap<&[String], BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    let arrows = source.arrows();
    for (from, to) in &arrows {
        let depth = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        if depth > 0 && depth < from.len().min(to.len()) {
            let folder = uses.entry(&from[..depth]).or_default();
            folder.entry(&from[depth]).or_default().insert(&to[depth]);
        }
    }
    let mut found = BTreeSet::new();
    for (folder, uses) in uses {
        let reached = |start: &str| {
            let mut reached: BTreeSet<&str> = BTreeSet::new();
            let mut open: Vec<&str> = uses.get(start).into_iter().flatten().copied().collect();
            while let Some(next) = open.pop() {
                if reached.insert(next) {
                    open.extend(uses.get(next).into_iter().flatten());
                }
            }
            reached
        };
        let all: BTreeMap<&str, BTreeSet<&str>> =
            uses.keys().map(|name| (*name, reached(name))).collect();
        for (name, reached) in &all {
            if reached.contains(name) {
                let back = |other: &&&str| all.get(**other).is_some_and(|r| r.contains(name));
                let circle: Vec<&str> = reached.iter().filter(back).copied().collect();
                found.insert((folder.join("/"), circle));
            }
        }
    }
    assert!(found.is_empty(), "these use each other in a circle: {found:#?}");
}
