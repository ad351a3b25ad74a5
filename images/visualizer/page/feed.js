// Copyright: The Apiary developers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

// The server says at least every 3 s that it is there. A connection that died without a word is found out by its silence.
const SILENCE_MS = 10_000;
const RETRY_MS = 1_000;

/** Follow the server for ever: onData(kind, data) for what it tells, onAway(since) when it does not answer. */
export function follow(onData, onAway) {
  let source;
  let heard = performance.now();
  let last = Date.now();
  let retry;

  const open = () => {
    retry = undefined;
    heard = performance.now();
    source = new EventSource("/events");
    for (const kind of ["state", "change", "beat"]) {
      source.addEventListener(kind, (event) => {
        heard = performance.now();
        last = Date.now();
        onData(kind, JSON.parse(event.data));
      });
    }
    source.onerror = lost;
  };
  const lost = () => {
    source.close(); // the browser would not try again after every kind of failure
    onAway(last);
    retry ??= setTimeout(open, RETRY_MS);
  };
  setInterval(() => {
    if (retry === undefined && performance.now() - heard > SILENCE_MS) lost();
  }, 1_000);
  open();
}
