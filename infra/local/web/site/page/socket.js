// One connection to GET /v1/live: frames in, frames out, and questions that are answered by ref.

const HELLO = 5_000;
const ANSWER = 6_000;

export class Socket extends EventTarget {
  #ws;
  #ref = 0;
  #asked = new Map(); // ref -> { resolve, reject, timer, positions }
  #end;
  ended; // rejects when the connection is over; it never resolves

  constructor(url, token) {
    super();
    this.#ws = new WebSocket(url, ['parley.v1', `bearer.${token}`]);
    this.ended = new Promise((_, reject) => { this.#end = reject; });
    this.ended.catch(() => {}); // those who await it get the error
    this.#ws.onopen = () => this.send({ action: 'auth' }); // the token came with the handshake
    this.#ws.onmessage = ({ data }) => this.#receive(data);
    this.#ws.onclose = ({ code }) => this.#over(new Error(`closed: ${code}`));
  }

  /** Resolves with the server's hello. */
  hello() {
    return Promise.race([
      this.ended,
      new Promise((resolve, reject) => {
        this.addEventListener('hello', ({ frame }) => resolve(frame), { once: true });
        setTimeout(() => reject(new Error('no hello')), HELLO);
      }),
    ]);
  }

  /** Sends a frame that wants an answer, and resolves with it. */
  ask(frame) {
    const ref = String(++this.#ref);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#settle(ref, 'reject', new Error('no answer')), ANSWER);
      this.#asked.set(ref, { resolve, reject, timer, positions: {} });
      if (!this.send({ ...frame, ref })) this.#settle(ref, 'reject', new Error('not connected'));
    });
  }

  /** Sends a frame; false if there is no connection. */
  send(frame) {
    if (this.#ws.readyState !== WebSocket.OPEN) return false;
    this.#ws.send(JSON.stringify(frame));
    return true;
  }

  close() {
    this.#ws.close(1000);
    this.#over(new Error('closed by us'));
  }

  #receive(data) {
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return; // no frame of this protocol
    }
    if (this.#asked.has(frame.ref)) this.#answered(frame);
    if (frame.type === 'bye') this.close();
    this.dispatchEvent(Object.assign(new Event(frame.type), { frame }));
  }

  /** An answer may come in parts; what they say is put together. */
  #answered(frame) {
    const asked = this.#asked.get(frame.ref);
    if (frame.type === 'error') {
      this.#settle(frame.ref, 'reject', Object.assign(new Error('refused'), { problem: frame.problem }));
      return;
    }
    Object.assign(asked.positions, frame.positions);
    if (!frame.part) this.#settle(frame.ref, 'resolve', { ...frame, positions: asked.positions });
  }

  #settle(ref, how, value) {
    const asked = this.#asked.get(ref);
    if (!asked) return;
    this.#asked.delete(ref);
    clearTimeout(asked.timer);
    asked[how](value);
  }

  #over(error) {
    this.#end(error);
    for (const ref of [...this.#asked.keys()]) this.#settle(ref, 'reject', error);
  }
}
