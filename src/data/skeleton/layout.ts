/** What the joints of a skeleton are. Plain data. */
export interface SkeletonLayout {
  readonly names: readonly string[];
  /** Joint that each is attached to; the root's own number for the root. */
  readonly parents: readonly number[];
  /** Joint at the middle of the body. */
  readonly root: number;
  /** From the pelvis to between the shoulders: the axis of the body. */
  readonly spine: readonly [number, number];
  /** Left and right shoulder. */
  readonly shoulders: readonly [number, number];
  /** Joints that change places in a mirror. */
  readonly pairs: readonly (readonly [number, number])[];
}

/** The 25 joints of Kinect 2, as NTU RGB+D and PKU-MMD have them. */
export const NTU_LAYOUT: SkeletonLayout = {
  names: [
    'pelvis',
    'spine',
    'neck',
    'head',
    'left shoulder',
    'left elbow',
    'left wrist',
    'left hand',
    'right shoulder',
    'right elbow',
    'right wrist',
    'right hand',
    'left hip',
    'left knee',
    'left ankle',
    'left foot',
    'right hip',
    'right knee',
    'right ankle',
    'right foot',
    'shoulders',
    'left fingers',
    'left thumb',
    'right fingers',
    'right thumb',
  ],
  parents: [0, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 6, 11, 10],
  root: 0,
  spine: [0, 20],
  shoulders: [4, 8],
  pairs: [
    [4, 8],
    [5, 9],
    [6, 10],
    [7, 11],
    [12, 16],
    [13, 17],
    [14, 18],
    [15, 19],
    [21, 23],
    [22, 24],
  ],
};
