//! Components that are hard to compile.

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

/// A component of so many functions of so many conditions, one after the other: compiling one takes more than linear time.
pub fn conditions(functions: usize, conditions: usize) -> Vec<u8> {
    let one = b"\x20\x00\x45\x04\x40\x20\x00\x41\x01\x6a\x21\x00\x0b";
    let body = sized(&[vec![0], one.repeat(conditions), b"\x20\x00\x0b".to_vec()].concat());
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, b"\x01\x60\x01\x7f\x01\x7f"),
        section(3, &[number(functions), vec![0; functions]].concat()),
        section(10, &[number(functions), body.repeat(functions)].concat()),
    ]
    .concat();
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module)].concat()
}

/// The same component with another digest: a section that nobody reads at its end.
pub fn marked(component: &[u8], mark: &str) -> Vec<u8> {
    [component, &section(0, &sized(mark.as_bytes()))].concat()
}
