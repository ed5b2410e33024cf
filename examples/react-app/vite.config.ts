import react from "@vitejs/plugin-react";
import { defineConfig, loadEnv } from "vite";

// buildrunner puts COMMIT_SHA and COMMIT_REF into the environment of the build; without it they are empty.
export default defineConfig(({ mode }) => {
  const commit = loadEnv(mode, ".", "COMMIT_");
  return {
    plugins: [react()],
    define: {
      __COMMIT_SHA__: JSON.stringify(commit.COMMIT_SHA ?? ""),
      __COMMIT_REF__: JSON.stringify(commit.COMMIT_REF ?? ""),
      __BUILT_AT__: JSON.stringify(new Date().toISOString()),
    },
  };
});
