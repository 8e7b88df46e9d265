/** Kinds of samples. Each has its readers, a preparation (`preparation.ts`), and words for what people read. */
export type Modality = keyof typeof WORDS;

const WORDS = {
  image: { one: 'image', many: 'images', raw: 'raw pixels' },
  video: { one: 'clip', many: 'clips', raw: 'raw frames' },
  sound: { one: 'recording', many: 'recordings', raw: 'raw spectrograms' },
  skeleton: { one: 'sequence', many: 'sequences', raw: 'raw joints' },
  text: { one: 'text', many: 'texts', raw: 'bags of words' },
  episodes: { one: 'episode', many: 'episodes', raw: 'raw observations' },
} as const;

export interface ModalityWords {
  readonly one: string;
  readonly many: string;
  /** The baseline that needs no encoder. */
  readonly raw: string;
}

/** What samples are called: of images unless it is said. */
export const wordsOf = ({ modality = 'image' }: { readonly modality?: Modality }): ModalityWords => WORDS[modality];
