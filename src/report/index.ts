export * from './build.js';
export type * from './data.js';
export { type FilmCell, renderFilm } from './film.js';
export { type LayoutOptions, layout2d } from './layout2d.js';
export { renderReport, writeReport } from './report.js';
export {
  createProgress,
  type Progress,
  type ProgressOptions,
  type ProgressStream,
  type ProgressUpdate,
} from './terminal.js';
