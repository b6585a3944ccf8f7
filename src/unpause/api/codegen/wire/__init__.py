"""The shapes of Codegen's API, and how they are made of ours."""
