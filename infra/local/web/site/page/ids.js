// Ids of events, minted here: ULIDs of 48 bits of Unix milliseconds, the 56 bits of their author's
// mark, which GET /v1/me gives, and 24 random bits. A command that is sent again under its id happens
// once, so an id is minted once and kept until the command is done.

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const RANDOM_SPACE = 1n << 24n;

/** Writes 128 bits as 26 characters of Crockford's base 32, upper case. */
export function encode(value) {
  let text = '';
  for (let i = 0; i < 26; i++) {
    text = ALPHABET[Number(value & 31n)] + text;
    value >>= 5n;
  }
  return text;
}

/** The time in an id, in Unix milliseconds. */
export function timeOf(id) {
  let ms = 0;
  for (const c of id.slice(0, 10)) ms = ms * 32 + ALPHABET.indexOf(c);
  return ms;
}

/** Whether a text has the form of an id. */
export function isID(text) {
  return /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/.test(text);
}

function randomBits(bits) {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return new DataView(bytes.buffer).getBigUint64(0) >> BigInt(64 - bits);
}

/** Mints the ids of one user. */
export class Minter {
  #mark;
  #now;
  #ms = 0;
  #random = 0n;
  #skew = 0; // milliseconds by which the servers' clocks are ahead of ours

  /** @param {string} mark the user's, in hexadecimal */
  constructor(mark, now = Date.now) {
    this.#mark = BigInt(`0x${mark}`);
    this.#now = now;
  }

  /** Sets the servers' time, which they return when they reject an id for its time. */
  setTime(serverMs) {
    this.#skew = serverMs - this.#now();
    this.#ms = 0;
  }

  /**
   * A new id, greater than all minted before and than each cause. A cause ahead of our clock
   * moves this one id and not the clock: what someone else's clock says is not ours to follow.
   */
  mint(...causes) {
    this.#tick();
    const id = this.#make(this.#ms);
    const latest = causes.reduce((a, b) => (b > a ? b : a), '');
    return id > latest ? id : this.#make(timeOf(latest) + 1);
  }

  #tick() {
    const ms = Math.floor(this.#now() + this.#skew);
    if (ms > this.#ms) {
      this.#ms = ms;
      this.#random = randomBits(24);
      return;
    }
    this.#random += 1n + randomBits(8);
    if (this.#random >= RANDOM_SPACE) { // the millisecond is full: borrow the next
      this.#ms++;
      this.#random = randomBits(24);
    }
  }

  #make(ms) {
    return encode((BigInt(ms) << 80n) | (this.#mark << 24n) | this.#random);
  }
}
