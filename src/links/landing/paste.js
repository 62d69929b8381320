// Finds the token in what people paste: a link with text around it, quoted, wrapped, quoted-printable, or rewritten by a
// mail gateway. Part of the landing page; page.js uses it.
(function () {
  'use strict';

  // Header, payload and signature of a JWT. The signature (ES256) has 64 bytes, so its end is known
  // whatever follows it.
  var TOKEN = /eyJ[\w-]*\.eyJ[\w-]*\.[\w-]{86}/;
  var LONGEST = 200000;
  // Gateways wrap each other.
  var DECODED_TIMES = 3;

  function character(code) {
    return code > 0 && code < 128 ? String.fromCharCode(code) : '';
  }

  function hex(digits) {
    return character(parseInt(digits, 16));
  }

  function withoutEntities(text) {
    return text
      .replace(/&#x([0-9a-f]{1,6});/gi, function (_, digits) { return hex(digits); })
      .replace(/&#(\d{1,7});/g, function (_, digits) { return character(parseInt(digits, 10)); })
      .replace(/&amp;/gi, '&');
  }

  function percentDecoded(text) {
    return text.replace(/%([0-7][0-9a-f])/gi, function (_, digits) { return hex(digits); });
  }

  function quotedPrintable(text) {
    return text
      .replace(/=[ \t]*\r?\n/g, '')
      .replace(/=([0-7][0-9a-f])/gi, function (_, digits) { return hex(digits); });
  }

  function joined(text) {
    return text.replace(/\s+/g, '');
  }

  // Proofpoint, version 2: `-` stands for `%`, and `_` for `/`. Versions 1 and 3 leave a token as it is. Its address may be
  // escaped in another one's.
  var PROOFPOINT = /urldefense(?:\.proofpoint)?\.com[\/%0-9a-f]{1,9}v2[\/%0-9a-f]{1,9}url[?%0-9a-f]{1,9}u[=%0-9a-f]{1,9}(http[\w.-]*)/i;

  function proofpoint(address) {
    return percentDecoded(address.replace(/-/g, '%').replace(/_/g, '/'));
  }

  // Sophos, among others: the address in base64.
  function base64(text) {
    var found = /aHR0c[A-Za-z0-9+\/_-]{40,}/.exec(joined(text));
    try {
      return found ? atob(found[0].replace(/-/g, '+').replace(/_/g, '/')) : '';
    } catch (error) {
      return '';
    }
  }

  function tokenOf(text) {
    for (var time = 0; time <= DECODED_TIMES; time += 1) {
      var rewritten = PROOFPOINT.exec(joined(text));
      if (rewritten) text = proofpoint(rewritten[1]);
      var found = TOKEN.exec(text) || TOKEN.exec(base64(text));
      if (found) return found[0];
      text = percentDecoded(text);
    }
    return '';
  }

  // The first whole token in a text, or ''.
  window.magicLinkToken = function (text) {
    var clean = withoutEntities(String(text).slice(0, LONGEST)).replace(/[\u00ad\u200b-\u200f\u2060\ufeff\\]/g, '');
    // The marks of replies.
    var unquoted = clean.replace(/^[ \t]*(?:[>|][ \t]*)+/gm, '');
    return tokenOf(clean) || tokenOf(joined(unquoted)) || tokenOf(joined(quotedPrintable(unquoted)));
  };
})();
