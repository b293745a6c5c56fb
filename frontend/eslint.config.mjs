import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  {
    files: ["src/**/*.js"],
    languageOptions: { globals: globals.browser },
    rules: { eqeqeq: "error", "no-var": "error", "prefer-const": "error", complexity: ["error", 20] },
  },
  { files: ["*.mjs"], languageOptions: { globals: globals.node } },
];
