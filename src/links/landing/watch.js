// Says so where the landing page cannot work, instead of waiting for ever. Written for browsers of any age.
(function () {
  'use strict';

  var PATIENCE_MS = 25000;

  // The page leaves the state `loading` with its first answer; what fails after that has words of its own.
  function tell() {
    var body = document.body;
    if (!body || body.getAttribute('data-state') !== 'loading') return;
    body.setAttribute('data-state', 'unsupported');
    var write = function (id, text) {
      var part = document.getElementById(id);
      if (part) {
        part.textContent = text;
        part.removeAttribute('hidden');
      }
    };
    write('heading', 'This page does not work here');
    write('lead', 'Your browser could not run it, or a part of it did not arrive. Your link has not been used.');
    write('next', 'Reload the page with the link in your mail. If that does not help, open the link in an up-to-date '
      + 'Chrome, Edge, Firefox or Safari.');
    document.title = 'This page does not work here';
  }

  function isOurs(event) {
    var script = event.target && event.target.src;
    return String(event.filename || script || '').indexOf('/l/') !== -1;
  }

  // Captured: a script that did not load tells nobody but its element.
  window.addEventListener('error', function (event) {
    if (isOurs(event)) setTimeout(tell, 0);
  }, true);
  window.addEventListener('unhandledrejection', function () { setTimeout(tell, 0); });
  setTimeout(tell, PATIENCE_MS);
})();
