/**
 * How large pictures are, and how often they are taken: as the connection carries them.
 *
 * The server asks for pictures at most half a second apart, looks for a gesture that is held for 200 ms, and wants those of
 * the colours within seconds. So a slow connection gets smaller pictures first, and fewer only then.
 */

/** @typedef {import("./camera.js").Size} Size */

// The largest first. `share` is about how many bytes a picture has, of what the first one would have. None is worse than
// these: at 400 px and 0.5 the models take faces for pictures of faces (tests/liveness/test_picture_sizes.py).
const SIZES = [
  { longerPx: 640, quality: 0.8, share: 1 },
  { longerPx: 640, quality: 0.6, share: 0.62 },
  { longerPx: 480, quality: 0.7, share: 0.45 },
  { longerPx: 480, quality: 0.5, share: 0.32 },
  { longerPx: 400, quality: 0.6, share: 0.28 },
];
// A picture may take this long on its way: the colours' then arrive in four seconds, while five are waited for and eight are
// given.
const UPLOAD_MS = 130;
const PERIOD_MS = 100;
const SLOWEST_PERIOD_MS = 250;
// Of the colours, each of which is shown for 300 ms, four pictures; three where more would come too late.
const FLASH_PERIOD_MS = 66;
const SLOWEST_FLASH_PERIOD_MS = 85;
// What is uploaded together is on its way while the next ones are taken.
const TOGETHER = 10;
// Larger again only when there is room: a size that changes with every batch helps nobody.
const ROOM = 0.6;
const NEWEST = 0.5;

export class Pace {
  #at = 0;
  /** Bytes of JPEG in a millisecond, 0 while nothing is known. */
  #bytesPerMs = 0;
  periodMs = PERIOD_MS;
  /** While colours are shown. */
  flashPeriodMs = FLASH_PERIOD_MS;

  /** @returns {Size} */
  get size() { return /** @type {Size} */ (SIZES[this.#at]); }

  get isKnown() { return this.#bytesPerMs > 0; }

  /** Take in how long a batch was on its way. @param {number[]} sizes of its pictures, in bytes @param {number} uploadMs */
  learn(sizes, uploadMs) {
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    const measured = bytes / uploadMs;
    this.#bytesPerMs = this.isKnown ? NEWEST * measured + (1 - NEWEST) * this.#bytesPerMs : measured;
    const whole = bytes / sizes.length / (SIZES[this.#at]?.share ?? 1);
    const fitting = (/** @type {number} */ room) => {
      const found = SIZES.findIndex(({ share }) => whole * share <= this.#bytesPerMs * UPLOAD_MS * room);
      return found < 0 ? SIZES.length - 1 : found;
    };
    this.#at = fitting(1) > this.#at ? fitting(1) : Math.min(this.#at, fitting(ROOM));
    // As many as get through, evenly: a gap in between would break a gesture that is being held.
    const each = (whole * (SIZES[this.#at]?.share ?? 1)) / this.#bytesPerMs;
    this.periodMs = Math.min(Math.max(PERIOD_MS, (each * (TOGETHER + 2)) / TOGETHER), SLOWEST_PERIOD_MS);
    this.flashPeriodMs = Math.min(Math.max(FLASH_PERIOD_MS, each), SLOWEST_FLASH_PERIOD_MS);
  }
}
