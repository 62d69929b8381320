// Finds the token in what people paste: a link with text around it, quoted, wrapped, quoted-printable, or rewritten by a
// mail gateway. Part of the landing page; page.js uses it.
(function () {
  'use strict';

  // A JWT: header, payload and signature. The signature (ES256) has 64 bytes, so its end is known
  // whatever follows it. Bounded, and looked for in one pass, so that no text keeps the page busy.
  var HEADER = 503;
  var PAYLOAD = 4099;
  var SIGNATURE = 86;
  var LONGEST = 200000;
  // Gateways wrap each other.
  var DECODED_TIMES = 3;

  // Others' JWTs stand beside ours: that of a meeting, or of a gateway. The header says whose it is. It is not decoded, so
  // that no text costs more than a look at it: these are the letters of its type, wherever in the header it begins.
  var TYPE = '"typ":"magic-link+jwt"';
  var OURS = ['', ' ', '  '].map(function (before) {
    var letters = btoa(before + TYPE).replace(/\+/g, '-').replace(/\//g, '_');
    return letters.slice(Math.ceil(before.length * 4 / 3), Math.floor((before + TYPE).length * 4 / 3));
  });

  // The header at the end of a part. Something may stand right before it, such as an escape that was not decoded, or the
  // end of another token.
  function headerOf(part) {
    var end = part.slice(-HEADER);
    for (var at = 0; at < OURS.length; at += 1) {
      var type = end.lastIndexOf(OURS[at]);
      var start = type < 0 ? -1 : end.lastIndexOf('eyJ', type);
      if (start >= 0) return end.slice(start);
    }
    return '';
  }

  // Those of ours.
  function jwts(text) {
    var tokens = [];
    if (text.indexOf('eyJ') < 0) return tokens;
    var chains = text.split(/[^\w.-]+/);
    for (var at = 0; at < chains.length; at += 1) {
      var parts = chains[at].split('.');
      for (var part = 0; part + 2 < parts.length; part += 1) {
        var payload = parts[part + 1];
        var signature = parts[part + 2].slice(0, SIGNATURE);
        var isPayload = /^eyJ./.test(payload) && payload.length <= PAYLOAD;
        var header = isPayload && signature.length === SIGNATURE ? headerOf(parts[part]) : '';
        if (header) tokens.push([header, payload, signature].join('.'));
      }
    }
    return tokens;
  }

  // What a token says of itself, or nothing.
  function claims(token) {
    try {
      return JSON.parse(decoded(token.split('.')[1])) || {};
    } catch (error) {
      return {};
    }
  }

  function isNewer(one, other) {
    if (one.jti === other.jti && one.gen !== other.gen) return one.gen > other.gen;
    return one.iat > (typeof other.iat === 'number' ? other.iat : -Infinity);
  }

  // A conversation holds a link of each mail, the oldest first, and only the newest one works. Of those that are as new
  // the first counts: what follows may be the same one, damaged by another way to read it.
  function newest(tokens) {
    var best = '';
    var said = {};
    tokens.forEach(function (token) {
      if (token === best) return;
      var says = claims(token);
      if (!best || isNewer(says, said)) {
        best = token;
        said = says;
      }
    });
    return best;
  }

  // What word processors make of a hyphen, so that no line breaks there.
  var DASHES = /[\u2010-\u2015\u2212]/g;

  function character(code) {
    return code > 0 && code < 128 ? String.fromCharCode(code) : String.fromCharCode(code).search(DASHES) < 0 ? '' : '-';
  }

  function hex(digits) {
    return character(parseInt(digits, 16));
  }

  var NAMED = { amp: '&', num: '#', period: '.', lowbar: '_', hyphen: '-', dash: '-' };

  // Entities of what is in no token are left away, such as those of a soft hyphen.
  function withoutEntities(text) {
    return text
      .replace(/&#x([0-9a-f]{1,6});/gi, function (_, digits) { return hex(digits); })
      .replace(/&#(\d{1,7});/g, function (_, digits) { return character(parseInt(digits, 10)); })
      .replace(/&(amp|num|period|lowbar|hyphen|dash);/gi, function (_, name) { return NAMED[name.toLowerCase()]; })
      .replace(/&(?:shy|zwn?j|lrm|rlm|nobreak|zerowidthspace|nbsp);/gi, '');
  }

  function percentDecoded(text) {
    return text.replace(/(?:%[0-9a-f]{2})+/gi, function (escaped) {
      try {
        return decodeURIComponent(escaped);
      } catch (error) {
        // No UTF-8.
        return escaped.replace(/%([0-7][0-9a-f])/gi, function (_, digits) { return hex(digits); });
      }
    });
  }

  // In RTF `\_` is a hyphen that does not break, in Markdown an underscore. Letters with plain underscores and no plain
  // hyphen were cut out of RTF.
  function withoutRtf(text) {
    if (/\{\\rtf|\\fldinst|\\'23/i.test(text)) {
      return text
        .replace(/\\[\r\n]+(?=['_])/g, '\\')
        .replace(/\\_/g, '-')
        .replace(/\\'([0-7][0-9a-f])/gi, function (_, digits) { return hex(digits); });
    }
    return text.replace(/[\w.\\-]{100,}/g, function (letters) {
      return /[A-Za-z0-9]_[A-Za-z0-9]/.test(letters) && letters.indexOf('-') < 0 ? letters.replace(/\\_/g, '-') : letters;
    });
  }

  // Escapes of programs (JSON, logs): line breaks in a text are written as letters. Escaped again, they have more
  // backslashes.
  function withoutEscapes(text) {
    return withoutRtf(text.replace(/\\{2,}/g, '\\'))
      .replace(/\\u([0-9a-f]{4})/gi, function (_, digits) { return hex(digits); })
      .replace(/\\[nr]/g, '\n')
      .replace(/\\t/g, ' ');
  }

  // A single ASCII character in UTF-7, between `+` and `-`.
  function withoutUtf7(text) {
    return text.replace(/\+(A[A-H][AEIMQUYcgkosw048])-/g, function (_, letters) {
      return character(atob(letters + 'A').charCodeAt(1));
    });
  }

  // Colours of terminals. A copy may have lost the sign that begins them, or write it as it is seen.
  function withoutColours(text) {
    return text.replace(/(?:\u001b|\u241b|\^\[)\[[\d;:?]{0,20}[@-~]|\[\d{1,3}(?:;\d{1,3}){0,5}m/g, '');
  }

  // Without what nobody sees: hyphens and spaces for line breaks, marks of direction, escapes of Markdown. Full-width signs,
  // ligatures and dashes become what they stand for.
  function clean(text) {
    return withoutColours(withoutUtf7(withoutEscapes(withoutEntities(text))))
      .replace(/\u0085/g, '\n')
      .replace(/[\u0000\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufffc\\]/g, '')
      .normalize('NFKC')
      // As security tools and tickets write addresses, so that nobody presses them.
      .replace(/[\[({](?:\.|dot)[\])}]/gi, '.')
      .replace(/hxxp(s?)\[?:\]?/gi, 'http$1:')
      .replace(DASHES, '-');
  }

  // The marks of replies.
  function unquoted(text) {
    return text.replace(/^[ \t]*(?:[>|\u2502\u2503\u00bb][ \t]*)+/gm, '');
  }

  // How far two lines begin alike, up to a sign that is in no address. What is counted in front of lines differs: numbers.
  var LEAD = 80;

  function alike(one, other) {
    return one === other || (/[\d ]/.test(one) && /[\d ]/.test(other));
  }

  function lead(line, neighbour) {
    var end = 0;
    for (var at = 0; at < LEAD && at < line.length && at < neighbour.length && alike(line[at], neighbour[at]); at += 1) {
      if (line[at] === neighbour[at] && /[^\w.%+\/=;#&-]/.test(line[at])) end = at + 1;
    }
    return end;
  }

  // Without what stands before and behind each line: initials of who is quoted, other marks and frames, signs of a wrap,
  // quotation marks of a program. A piece of a token has none of these signs, so nothing of it is taken for one.
  function bare(text) {
    var lines = text.split(/[\r\n\u2028\u2029]+/).filter(function (line) { return /\S/.test(line); });
    return lines.map(function (line, at) {
      var start = Math.max(lead(line, lines[at - 1] || ''), lead(line, lines[at + 1] || ''));
      return (/^.*[\w.%=&#;:\/?<>!-]\+*/.exec(line.slice(start)) || [''])[0];
    }).join('\n');
  }

  // Tags stand within a link that was copied from a page's source: <wbr>, <br/>, <span style="…">, comments. The name of a
  // tag is short: a wrapped token in angle brackets is none.
  function withoutTags(text) {
    return text.replace(/<\/?[a-z][a-z0-9:-]{0,20}(?:\s[^<>]*)?\/?>|<!--[^<>]*-->/gi, function (tag) {
      // The link may be in an attribute.
      return tag.length > 100 && /^<a\s|http|eyJ/i.test(tag) ? tag : '';
    });
  }

  function quotedPrintable(text) {
    return text
      .replace(/=[ \t]*\r?\n/g, '')
      .replace(/=([0-7][0-9a-f])/gi, function (_, digits) { return hex(digits); });
  }

  function joined(text) {
    return text.replace(/\s+/g, '');
  }

  // Proofpoint, version 2, of both of its domains: `-` stands for `%`, and `_` for `/`. Versions 1 and 3 leave a token as
  // it is. Its address may be escaped in another one's.
  var PROOFPOINT = /urldefense(?:\.proofpoint)?\.(?:com|us)[\/%0-9a-f]{1,25}v2[\/%0-9a-f]{1,25}url[?%0-9a-f]{1,25}u[=%0-9a-f]{1,25}(http[\w.-]*)/gi;

  // Each in its place, apart from what stands beside it.
  function withoutProofpoint(text) {
    return text.replace(PROOFPOINT, function (_, address) {
      return '"' + percentDecoded(address.replace(/-/g, '%').replace(/_/g, '/')) + '"';
    });
  }

  // Either alphabet, padded or not. A letter too many is something else, such as a part of the path behind it.
  function decoded(letters) {
    letters = letters.replace(/=+$/, '').replace(/-/g, '+').replace(/_/g, '/');
    try {
      return atob(letters.slice(0, letters.length - (letters.length % 4 === 1 ? 1 : 0)));
    } catch (error) {
      return '';
    }
  }

  // Sophos, among others: the address in base64. A gateway in front of another one writes that in base64 again.
  function base64(text) {
    var addresses = joined(text).match(/(?:aHR0c|YUhSMGN)[A-Za-z0-9+\/_-]{40,}/g) || [];
    return addresses.map(function (letters) {
      var address = decoded(letters);
      var inner = /^aHR0c[A-Za-z0-9+\/_-]*/.exec(address);
      return inner ? decoded(inner[0]) : address;
    }).join('\n');
  }

  // Parts of a mail's source, or a whole mail, in base64. What stands before the letters may look like some more of them.
  function mailParts(text) {
    var parts = text.match(/[A-Za-z0-9+\/_-]{200,}/g) || [];
    return parts.map(function (letters) {
      return [0, 1, 2, 3].map(function (start) { return decoded(letters.slice(start)); }).join('\n');
    }).join('\n');
  }

  // A text as it stands, or wrapped.
  function forms(text) {
    var plain = withoutTags(unquoted(text));
    var all = [text];
    [bare(plain), plain].forEach(function (lines) { all.push(joined(lines), joined(quotedPrintable(lines))); });
    return all.filter(function (form, at) { return all.indexOf(form) === at; });
  }

  function found(text) {
    return newest(forms(text).map(function (form) { return newest(jwts(form).concat(jwts(base64(form)))); }));
  }

  // What is escaped is cleaned again once it is decoded: a gateway escapes the line breaks of a link, too.
  function tokenOf(text) {
    var tokens = [];
    for (var time = 0; time <= DECODED_TIMES; time += 1) {
      var before = text;
      text = clean(text);
      // One around another one, too: what is half decoded looks like a token.
      for (var line = joined(text); line.search(PROOFPOINT) >= 0; line = joined(text)) text = withoutProofpoint(line);
      tokens.push(found(text));
      text = percentDecoded(text);
      if (text === before) break;
    }
    return newest(tokens);
  }

  // The blanks of a wrap, as a form writes them in an address.
  function blanks(text) {
    return tokenOf(text.replace(/\+/g, ' '));
  }

  function ofMail(text) {
    var parts = mailParts(text);
    return newest([tokenOf(parts), tokenOf(mailParts(joined(parts)))]);
  }

  // The newest whole token in a text, or ''.
  window.magicLinkToken = function (text) {
    // Joined before anything is decoded, because a wrap may cut an escape.
    var all = forms(clean(String(text).slice(0, LONGEST)));
    return newest(all.map(tokenOf).concat(all.map(blanks), all.map(ofMail)));
  };
})();
