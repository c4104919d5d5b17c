//! What a component is made of, counted from its bytes before anything is compiled.
//!
//! Compiling takes more than linear time and memory in the size of single parts: one function of a megabyte takes minutes.
//! So the parts are counted first, in one pass over the bytes that takes memory for nothing but the counts, and what has too
//! many or too large ones is refused by name. The bounds leave room for the largest guests there are: the interpreters of
//! Python and JavaScript. What is wrong with the bytes in other ways is for the compiler to say.

use wasmparser::{FunctionBody, Operator, Parser, Payload};

/// Something of which a component has so much that it is not compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found} {what}, and there can be at most {limit}")]
pub(crate) struct Excess {
    what: &'static str,
    found: u64,
    limit: u64,
}

macro_rules! anatomy {
    ($($(#[$about:meta])* $name:ident: $limit:expr, $what:literal;)*) => {
        /// The counts of a component, with everything that is nested in it.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub(crate) struct Anatomy { $($(#[$about])* $name: u64,)* }

        impl Anatomy {
            /// Fails with the first count that is above its bound.
            pub(crate) fn check(&self) -> Result<(), Excess> {
                $(if self.$name > $limit {
                    return Err(Excess { what: $what, found: self.$name, limit: $limit });
                })*
                Ok(())
            }

            /// For each count: one that is at its bound, and one that is just above, with its name.
            #[cfg(test)]
            fn edges() -> Vec<(Self, Self, &'static str)> {
                let none = Self::default;
                vec![$((Self { $name: $limit, ..none() }, Self { $name: $limit + 1, ..none() }, $what)),*]
            }
        }
    };
}

anatomy! {
    /// Of the largest function.
    function_bytes: 1 << 20, "bytes of code in one function";
    function_locals: 10_000, "locals in one function";
    function_blocks: 20_000, "blocks, loops and conditions in one function";
    function_depth: 5_000, "blocks in each other in one function";
    function_targets: 100_000, "targets of branches in one function";
    functions: 200_000, "functions";
    code_bytes: 96 << 20, "bytes of code";
    modules: 200, "core modules";
    components: 200, "components in it";
    depth: 10, "components in each other";
    instances: 1_000, "instances";
    types: 50_000, "types";
    type_bytes: 2 << 20, "bytes of types";
    imports: 20_000, "imports";
    exports: 20_000, "exports";
    aliases: 50_000, "aliases";
    adapters: 20_000, "functions that are lifted or lowered";
    memories: 200, "memories";
    tables: 1_000, "tables";
    globals: 50_000, "globals";
    tags: 1_000, "tags";
    elements: 20_000, "segments of elements";
    element_bytes: 16 << 20, "bytes of elements";
    segments: 100_000, "segments of data";
}

impl Anatomy {
    /// Counts. Fails with a sentence where the bytes are no component.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, String> {
        let mut counts = Self::default();
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|error| error.to_string())?;
            match &payload {
                Payload::Version { .. } => {
                    depth += 1;
                    counts.depth = counts.depth.max(depth);
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                _ => counts.add(&payload).map_err(|error| error.to_string())?,
            }
        }
        Ok(counts)
    }

    fn add(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        // Only the number of things that a section says it has is read: what is in it may be nested without end.
        match payload {
            Payload::TypeSection(section) => self.add_types(section.count(), section.range()),
            Payload::CoreTypeSection(section) => self.add_types(section.count(), section.range()),
            Payload::ComponentTypeSection(section) => self.add_types(section.count(), section.range()),
            Payload::ImportSection(section) => self.imports += u64::from(section.count()),
            Payload::ComponentImportSection(section) => self.imports += u64::from(section.count()),
            Payload::ExportSection(section) => self.exports += u64::from(section.count()),
            Payload::ComponentExportSection(section) => self.exports += u64::from(section.count()),
            Payload::ComponentAliasSection(section) => self.aliases += u64::from(section.count()),
            Payload::ComponentCanonicalSection(section) => self.adapters += u64::from(section.count()),
            Payload::InstanceSection(section) => self.instances += u64::from(section.count()),
            Payload::ComponentInstanceSection(section) => self.instances += u64::from(section.count()),
            Payload::FunctionSection(section) => self.functions += u64::from(section.count()),
            Payload::MemorySection(section) => self.memories += u64::from(section.count()),
            Payload::TableSection(section) => self.tables += u64::from(section.count()),
            Payload::GlobalSection(section) => self.globals += u64::from(section.count()),
            Payload::TagSection(section) => self.tags += u64::from(section.count()),
            Payload::DataSection(section) => self.segments += u64::from(section.count()),
            Payload::ElementSection(section) => {
                self.elements += u64::from(section.count());
                self.element_bytes += section.range().len() as u64;
            }
            Payload::ModuleSection { .. } => self.modules += 1,
            Payload::ComponentSection { .. } => self.components += 1,
            Payload::CodeSectionStart { size, .. } => self.code_bytes += u64::from(*size),
            Payload::CodeSectionEntry(body) => self.add_function(body)?,
            _ => {}
        }
        Ok(())
    }

    fn add_types(&mut self, count: u32, range: std::ops::Range<usize>) {
        self.types += u64::from(count);
        self.type_bytes += range.len() as u64;
    }

    fn add_function(&mut self, body: &FunctionBody<'_>) -> wasmparser::Result<()> {
        self.function_bytes = self.function_bytes.max(body.range().len() as u64);
        let mut locals = 0;
        for local in body.get_locals_reader()? {
            locals += u64::from(local?.0);
        }
        self.function_locals = self.function_locals.max(locals);
        let (mut blocks, mut targets, mut depth) = (0, 0, 0_u64);
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            match operators.read()? {
                Operator::Block { .. }
                | Operator::Loop { .. }
                | Operator::If { .. }
                | Operator::Try { .. }
                | Operator::TryTable { .. } => {
                    blocks += 1;
                    depth += 1;
                    self.function_depth = self.function_depth.max(depth);
                }
                Operator::Else => blocks += 1,
                Operator::End => depth = depth.saturating_sub(1),
                Operator::BrTable { targets: table } => targets += u64::from(table.len()) + 1,
                Operator::Br { .. } | Operator::BrIf { .. } => targets += 1,
                _ => {}
            }
        }
        self.function_blocks = self.function_blocks.max(blocks);
        self.function_targets = self.function_targets.max(targets);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(mut n: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while n >= 128 {
            bytes.push(n as u8 | 128);
            n >>= 7;
        }
        bytes.push(n as u8);
        bytes
    }

    fn sized(bytes: &[u8]) -> Vec<u8> {
        [number(bytes.len()), bytes.to_vec()].concat()
    }

    fn section(id: u8, contents: &[u8]) -> Vec<u8> {
        [vec![id], sized(contents)].concat()
    }

    /// A component of one module with these functions, each of which takes a number and gives one.
    fn component(functions: &[Vec<u8>]) -> Vec<u8> {
        let count = number(functions.len());
        let bodies: Vec<u8> = functions.iter().flat_map(|body| sized(body)).collect();
        let module = [
            b"\0asm\x01\0\0\0".to_vec(),
            section(1, b"\x01\x60\x01\x7f\x01\x7f"),
            section(3, &[count.clone(), vec![0; functions.len()]].concat()),
            section(10, &[count, bodies].concat()),
        ]
        .concat();
        [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module)].concat()
    }

    /// `if` after `if` in one function.
    fn conditions(count: usize) -> Vec<u8> {
        let one = b"\x20\x00\x45\x04\x40\x20\x00\x41\x01\x6a\x21\x00\x0b";
        [vec![0], one.repeat(count), b"\x20\x00\x0b".to_vec()].concat()
    }

    fn locals(count: usize) -> Vec<u8> {
        [vec![1], number(count), b"\x7f\x20\x00\x0b".to_vec()].concat()
    }

    fn table(targets: usize) -> Vec<u8> {
        let table = [number(targets), vec![0; targets + 1]].concat();
        [b"\x00\x02\x40\x20\x00\x0e".to_vec(), table, b"\x0b\x20\x00\x0b".to_vec()].concat()
    }

    fn nested(depth: usize) -> Vec<u8> {
        [vec![0], b"\x02\x40".repeat(depth), b"\x0b".repeat(depth), b"\x20\x00\x0b".to_vec()].concat()
    }

    fn long(operations: usize) -> Vec<u8> {
        [vec![0], b"\x20\x00\x1a".repeat(operations), b"\x20\x00\x0b".to_vec()].concat()
    }

    fn judge(bytes: &[u8]) -> Result<(), String> {
        Anatomy::of(bytes)?.check().map_err(|excess| excess.to_string())
    }

    #[test]
    fn a13_each_count_has_a_bound_that_refuses_by_its_name() {
        for (at, above, what) in Anatomy::edges() {
            assert_eq!(at.check(), Ok(()), "{what}");
            let refusal = above.check().unwrap_err().to_string();
            assert!(refusal.contains(what) && refusal.contains("there can be at most"), "{refusal}");
        }
    }

    #[test]
    fn a13_functions_that_take_minutes_to_compile_are_refused_by_what_makes_them_so() {
        for (body, what) in [
            (conditions(57_000), "57000 blocks, loops and conditions in one function"),
            (locals(40_000), "40000 locals in one function"),
            (table(800_000), "800001 targets of branches in one function"),
            (nested(6_000), "6000 blocks in each other in one function"),
            (long(500_000), "bytes of code in one function"),
        ] {
            assert!(judge(&component(&[conditions(1), body])).unwrap_err().contains(what), "{what}");
        }
        assert!(judge(&component(&vec![conditions(1); 200_001])).unwrap_err().contains("200001 functions"));
    }

    /// The largest functions of the largest guests: StarlingMonkey 0.3 (componentize-js 0.23.0), CPython 3.14 (componentize-py
    /// 0.25.1), and of Rust in release mode.
    #[test]
    fn a13_the_largest_guests_that_there_are_pass() {
        let largest = Anatomy {
            function_bytes: 426_843,
            function_locals: 483,
            function_blocks: 5_352,
            function_depth: 781,
            function_targets: 15_943,
            functions: 40_000,
            code_bytes: 20 << 20,
            modules: 20,
            components: 20,
            depth: 3,
            instances: 100,
            types: 2_000,
            type_bytes: 60_000,
            imports: 3_000,
            exports: 4_000,
            aliases: 1_500,
            adapters: 500,
            memories: 2,
            tables: 8,
            globals: 4_000,
            tags: 0,
            elements: 100,
            element_bytes: 100_000,
            segments: 7_000,
        };
        assert_eq!(largest.check(), Ok(()));
        assert_eq!(judge(&component(&[conditions(5_352), locals(483), table(15_000), nested(781)])), Ok(()));
    }

    #[test]
    fn a13_components_in_components_are_counted_to_the_bottom() {
        let mut inner = component(&[conditions(30_000)]);
        assert!(judge(&inner).unwrap_err().contains("30000 blocks"));
        inner = component(&[conditions(1)]);
        for _ in 0..20 {
            inner = [b"\0asm\x0d\0\x01\0".to_vec(), section(4, &inner)].concat();
        }
        assert!(judge(&inner).unwrap_err().contains("components in each other"));
    }

    #[test]
    fn a13_whatever_the_bytes_are_it_is_counted_or_said_to_be_wrong() {
        let whole = component(&[conditions(3), locals(3), table(3), nested(3)]);
        for end in 0..whole.len() {
            let _ = Anatomy::of(&whole[..end]);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 4, 0x40, 0x7f, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = judge(&changed);
                changed.truncate(at + 1);
                changed.extend([0xff; 8]);
                let _ = judge(&changed);
            }
        }
    }
}
