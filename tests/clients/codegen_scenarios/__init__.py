"""What is done with Codegen's own client and SDK. It runs in an environment that has them and nothing of ours."""
