// The key of a browser that is remembered for a link. It never leaves the browser: it signs the proofs that open the link
// again. Part of the landing page; page.js uses it.
(() => {
  'use strict';

  const STORE = 'keys';
  const TYPE = 'magic-link-proof+jwt';

  // Some browsers never answer, and say nothing of it.
  const PATIENCE_MS = 3_000;

  const settled = (request, done = 'onsuccess') => new Promise((resolve, reject) => {
    request[done] = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onabort = () => reject(request.error);
    request.onblocked = () => reject(new Error('blocked'));
    setTimeout(() => reject(new Error('no answer')), PATIENCE_MS);
  });

  async function inStore(mode, act) {
    const opening = indexedDB.open('magic-link', 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
    const database = await settled(opening);
    try {
      const transaction = database.transaction(STORE, mode);
      const request = act(transaction.objectStore(STORE));
      await settled(transaction, 'oncomplete');
      return request.result;
    } finally {
      database.close();
    }
  }

  const base64url = (bytes) => btoa(String.fromCharCode(...bytes))
    .replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
  const encoded = (text) => new TextEncoder().encode(text);
  const part = (value) => base64url(encoded(JSON.stringify(value)));

  window.magicLinkDevice = {
    // Whether this browser keeps keys at all. Some keep none in private windows.
    async isAble() {
      try {
        await inStore('readonly', (store) => store.count());
        return Boolean(crypto.subtle);
      } catch {
        return false;
      }
    },

    // The key for this link and generation, or null.
    async find({ magic_link_id: link, generation }) {
      try {
        const kept = await inStore('readonly', (store) => store.get(link));
        return kept?.generation === generation ? kept : null;
      } catch {
        return null;
      }
    },

    // Makes and keeps a key that cannot be read, not even by this page.
    async create({ magic_link_id: link, generation }) {
      const pair = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify']);
      const { kty, crv, x, y } = await crypto.subtle.exportKey('jwk', pair.publicKey);
      const key = { generation, jwk: { kty, crv, x, y }, privateKey: pair.privateKey };
      await inStore('readwrite', (store) => store.put(key, link));
      return key;
    },

    async forget({ magic_link_id: link }) {
      try {
        await inStore('readwrite', (store) => store.delete(link));
      } catch {
        // The service has forgotten it, and that decides.
      }
    },

    // A proof for a request, shaped like that of DPoP (RFC 9449).
    async prove(key, path, challenge) {
      const header = { typ: TYPE, alg: 'ES256', jwk: key.jwk };
      const claims = {
        htm: 'POST',
        htu: location.origin + path,
        nonce: challenge.nonce,
        magic_link_id: challenge.magic_link_id,
        gen: challenge.generation,
        visit: challenge.visit,
      };
      const text = `${part(header)}.${part(claims)}`;
      const signature = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, key.privateKey, encoded(text));
      return `${text}.${base64url(new Uint8Array(signature))}`;
    },
  };
})();
