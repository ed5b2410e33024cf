// Filled in by vite.config.ts when the site is built.
declare const __COMMIT_SHA__: string;
declare const __COMMIT_REF__: string;
declare const __BUILT_AT__: string;

interface ImportMetaEnv {
  readonly VITE_GREETING?: string;
}
