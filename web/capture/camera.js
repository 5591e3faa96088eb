/** The camera: opened, and its pictures as the JPEGs that the server takes. */

// The server takes sides of 240 px and more.
const LEAST_SIDE_PX = 240;
// A camera that another app took is muted first; one that only stumbles comes back sooner.
const MUTED_MS = 2000;

/** @typedef {{longerPx: number, quality: number}} Size of what is sent: its longer side, and JPEG's quality */
/** @typedef {{jpeg: Blob, atMs: number}} Picture taken at `atMs` of performance.now() */

export class Camera {
  /** @param {MediaStream} stream @param {HTMLVideoElement} video */
  constructor(stream, video) {
    this.stream = stream;
    this.video = video;
    this.canvas = document.createElement("canvas");
  }

  /** Ask for the camera and show it in `video`. Fails as getUserMedia does. @param {HTMLVideoElement} video */
  static async open(video) {
    if (!navigator.mediaDevices) throw new DOMException("no camera interface", "NotFoundError");
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } },
    });
    video.srcObject = stream;
    await video.play();
    return new Camera(stream, video);
  }

  /** Tell once when there is no picture any more: another app took the camera, or it was pulled out. @param {() => void} lost */
  watch(lost) {
    for (const track of this.stream.getVideoTracks()) {
      track.addEventListener("ended", lost, { once: true });
      track.addEventListener("mute", () => setTimeout(() => track.muted && lost(), MUTED_MS));
    }
  }

  /** What the server may know of the camera (CaptureDevice). */
  device() {
    const track = this.stream.getVideoTracks()[0];
    const settings = track?.getSettings() ?? {};
    return {
      label: (track?.label ?? "").slice(0, 128),
      widthPx: settings.width ?? 0,
      heightPx: settings.height ?? 0,
      framesPerS: Math.round(settings.frameRate ?? 0),
    };
  }

  /** @param {Size} size @returns {Promise<Picture>} */
  async take({ longerPx, quality }) {
    const { videoWidth: width, videoHeight: height } = this.video;
    const scale = Math.min(1, Math.max(longerPx / Math.max(width, height), LEAST_SIDE_PX / Math.min(width, height)));
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const atMs = performance.now();
    // As the camera sees it: only what the person sees is mirrored.
    this.canvas.getContext("2d")?.drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    const jpeg = await new Promise((resolve) => this.canvas.toBlob(resolve, "image/jpeg", quality));
    if (!(jpeg instanceof Blob)) throw new DOMException("no picture", "NotReadableError");
    return { jpeg, atMs };
  }

  close() {
    for (const track of this.stream.getTracks()) track.stop();
    this.video.srcObject = null;
  }
}

/** @param {Blob} blob @returns {Promise<string>} */
export async function base64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}
