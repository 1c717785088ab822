//! Every code point and every byte through every kind of output.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Stdio};

use super::*;

/// Controls, formats, and the ends of lines and paragraphs: the categories Cc, Cf, Zl and Zp of Unicode 14. Those that
/// turn the direction of what is read are among them.
const OBEYED: &[(u32, u32)] = &[
    (0x0, 0x1f),
    (0x7f, 0x9f),
    (0xad, 0xad),
    (0x600, 0x605),
    (0x61c, 0x61c),
    (0x6dd, 0x6dd),
    (0x70f, 0x70f),
    (0x890, 0x891),
    (0x8e2, 0x8e2),
    (0x180e, 0x180e),
    (0x200b, 0x200f),
    (0x2028, 0x202e),
    (0x2060, 0x2064),
    (0x2066, 0x206f),
    (0xfeff, 0xfeff),
    (0xfff9, 0xfffb),
    (0x110bd, 0x110bd),
    (0x110cd, 0x110cd),
    (0x13430, 0x13438),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0001, 0xe0001),
    (0xe0020, 0xe007f),
];

fn is_obeyed(c: char) -> bool {
    OBEYED.iter().any(|(first, last)| (*first..=*last).contains(&u32::from(c)))
}

/// The production Char of XML 1.0.
fn is_char_of_xml(c: char) -> bool {
    matches!(u32::from(c), 0x9 | 0xa | 0xd | 0x20..=0xd7ff | 0xe000..=0xfffd | 0x1_0000..=0x10_ffff)
}

fn all() -> impl Iterator<Item = char> {
    (0..=0x10_ffff).filter_map(char::from_u32)
}

/// What a [`word`] was made of: the text again, if nothing is lost.
fn unworded(shown: &str) -> String {
    let (mut out, mut rest) = (String::new(), shown);
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let mark = rest.as_bytes()[at + 1];
        let body = &rest[at + 2..];
        let number = |hex: &str| char::from_u32(u32::from_str_radix(hex, 16).unwrap()).unwrap();
        let (c, len) = match mark {
            b'n' => ('\n', 0),
            b'r' => ('\r', 0),
            b't' => ('\t', 0),
            b'\\' => ('\\', 0),
            b'x' if number(&body[..2]).is_ascii() => (number(&body[..2]), 2),
            b'x' => (
                names::text(&OsString::from_vec(vec![u8::try_from(number(&body[..2])).unwrap()])).remove(0),
                2,
            ),
            b'u' => (number(&body[1..body.find('}').unwrap()]), body.find('}').unwrap() + 1),
            mark => panic!("{} in {shown}", char::from(mark)),
        };
        out.push(c);
        rest = &body[len..];
    }
    out + rest
}

#[test]
fn a_terminal_gets_nothing_that_it_obeys() {
    for c in all() {
        let text = format!("a{c}b");
        let shown = word(&text);
        assert!(!shown.chars().any(is_obeyed), "U+{:04X} in a word", u32::from(c));
        assert_eq!(unworded(&shown), text, "U+{:04X} is not told apart", u32::from(c));
        let shown = lines(&text);
        assert!(!shown.chars().any(|c| is_obeyed(c) && c != '\n'), "U+{:04X} in lines", u32::from(c));
        assert_eq!(lines(&word(&text)), word(&text), "U+{:04X} is shown twice", u32::from(c));
    }
    assert_eq!(word("\u{e9}\u{4e16} e\u{301} it's \"so\""), "\u{e9}\u{4e16} e\u{301} it's \"so\"");
    assert_eq!(word("a\x1b[31m\n\0\u{202e}\\"), "a\\x1b[31m\\n\\x00\\u{202e}\\\\");
}

#[test]
fn every_byte_of_a_name_is_shown() {
    for byte in 0..=255 {
        let name = OsString::from_vec(vec![b'a', byte, b'b']);
        let shown = word(&names::text(&name)).into_owned();
        assert!(!shown.chars().any(is_obeyed), "{byte:#x}");
        assert_eq!(names::name(&unworded(&shown)), name);
    }
    assert_eq!(word(&names::text(&OsString::from_vec(b"a\xff\xc3.db".to_vec()))), "a\\xff\\xc3.db");
}

/// The attributes and texts of the elements in an XML document, as expat reads them, which is strict.
fn read_by_expat(document: &str) -> Vec<(String, String)> {
    let script = "import json, sys, xml.etree.ElementTree as tree\n\
                  root = tree.fromstring(sys.stdin.buffer.read())\n\
                  print(json.dumps([[element.get('b'), element.text] for element in root]))";
    let mut python = Command::new("python3");
    let mut child = python.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // It reads all before it prints anything.
    child.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "the document is not well-formed");
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn xml_is_well_formed_and_says_what_a_terminal_does() {
    let code_points: Vec<char> = all().collect();
    let texts: Vec<String> = code_points.chunks(0x1000).map(|chunk| chunk.iter().collect()).collect();
    let element = |text: &String| format!("<a b=\"{}\">{}</a>", xml(&word(text)), xml(text));
    let document = format!("<all>{}</all>", texts.iter().map(element).collect::<String>());
    if let Some(c) = document.chars().find(|c| !is_char_of_xml(*c) || (is_obeyed(*c) && *c != '\n')) {
        panic!("U+{:04X} is in the document", u32::from(c));
    }
    assert_eq!(xml("]]>"), "]]&gt;");
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("not read again, because there is no python3");
        return;
    }
    let read = read_by_expat(&document);
    assert_eq!(read.len(), texts.len());
    for (text, (attribute, inner)) in texts.iter().zip(read) {
        assert_eq!(inner, lines(text));
        assert_eq!(unworded(&attribute), *text);
    }
}

#[test]
fn json_comes_back() {
    for chunk in all().collect::<Vec<_>>().chunks(0x1000) {
        let text: String = chunk.iter().collect();
        for json in [json(&[&text]).unwrap(), json_lines(&[&text]).unwrap()] {
            assert!(!json.chars().any(|c| is_obeyed(c) && c != '\n'), "from U+{:04X}", u32::from(chunk[0]));
            let [back] = serde_json::from_str::<[String; 1]>(&json).unwrap();
            assert_eq!(back, text);
        }
        assert!(!json(&[&text]).unwrap().contains('\n'));
    }
}

/// What bash makes of a line, one word after the other with a byte 0 behind each.
fn read_by_shell(line: &str) -> Vec<u8> {
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), format!("printf '%s\\0' {line}\n")).unwrap();
    let done = Command::new("bash").arg(script.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

#[test]
fn a_shell_takes_a_command_as_it_was() {
    if !std::path::Path::new("/bin/bash").exists() {
        eprintln!("not run, because there is no bash");
        return;
    }
    let code_points: Vec<char> = all().skip(1).collect();
    let texts = code_points.chunks(0x1000).map(|chunk| chunk.iter().collect::<String>().into_bytes());
    let bytes = (1..=255).map(|byte| vec![b'a', byte, b'b']);
    let plain = [&b""[..], b"it's", b"a b", b"$HOME", b"~", b"-x=1", b"a'\\\n"].map(<[u8]>::to_vec);
    let words: Vec<OsString> = texts.chain(bytes).chain(plain).map(OsString::from_vec).collect();
    for some in words.chunks(16) {
        let line = shell(some);
        assert!(!line.chars().any(is_obeyed), "{line}");
        let wanted: Vec<u8> = some.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
        assert_eq!(read_by_shell(&line), wanted);
    }
    assert_eq!(shell(["ls", "a b", "it's", "x\ny"]), "ls 'a b' 'it'\\''s' $'x\\012y'");
}
