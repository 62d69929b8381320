//! Hostile input: injections, links, control characters. The tests of the API use it, too.

const PIECES: [&str; 36] = [
    "\"",
    "'",
    ",",
    ";",
    "\\",
    "\r\nBcc: eve@evil.example",
    "\n\nhttps://evil.example/l#x",
    "\r\n.\r\n",
    "\u{0}",
    "\u{2028}",
    "<a href=\"https://evil.example\">click</a>",
    "\"><script>alert(1)</script>",
    "' onmouseover='alert(1)",
    "</p></div><h1>",
    "<!--",
    "]]>",
    "<style>*{display:none}</style>",
    "<img src=//evil.example/x>",
    "https://evil.example/x?y=1&z=2",
    "//evil.example",
    "www.evil.example",
    "evil.example",
    "a@evil.example",
    "mailto:a@evil.example?bcc=b@evil.example",
    "javascript:alert(1)",
    "\u{202e}moc.live\u{202c}",
    "\u{200f}live\u{200e}",
    "\u{2066}x",
    "محمد عبد الرحمن",
    "{{ mail.url }}",
    "{% raw %}",
    "&lt;a&gt; &#60;b&#62;",
    "=?UTF-8?Q?=0ABcc:_eve=40evil.example?=",
    "Ravi, \"R\" <x@evil.example>",
    "%0d%0aBcc:eve@evil.example",
    "eve@evil.example, mallory@evil.example",
];

/// The input of this number; a thousand numbers give a thousand different ones.
pub fn words(number: usize) -> String {
    let piece = |number: usize| PIECES[number % PIECES.len()];
    let between = ["", " ", " of "][number % 3];
    format!("{}{between}{}{between}{}", piece(number), piece(number / PIECES.len()), piece(number * 7 + 3))
}
