"""The operator's settings: all of them, with their defaults, are in docs/configuration.md.

Safe as it stands. Keys and other secrets go into `.env` or the environment, not into this file.
`aipipe check` says what is on, what is off and what is wrong; a change counts from the next start.
"""

# Dollars that each person may spend in the last so many days (UTC, today included). A person's own entry
# comes before their domain's, and that before "*". Whoever has none may spend nothing.
BUDGET = {
    "*": {"limit": 0.1, "days": 7},
    # "@example.com": {"limit": 1, "days": 7},
    # "alice@example.com": {"limit": 10, "days": 30, "models": ["gpt-4o-mini", "local/*"], "rpm": 30},
    # "charlie@example.org": {"limit": 0},
}

# If someone's token was stolen, give them a new text here: their tokens from before stop working.
SALT = {
    # "bob@example.com": "random-text",
}

# Dollars per million tokens, for models that AI Pipe has no price for, or that cost you something else.
PRICES = {
    # "groq/llama-3.3-70b-versatile": {"input_mtok": 0.59, "output_mtok": 0.79},
}

# More providers that speak OpenAI's formats. `key` names the environment variable that holds the key.
PROVIDERS = {
    # "groq": {"base": "https://api.groq.com/openai", "key": "GROQ_API_KEY"},
}

# Web apps that get a token to spend from a user's budget without asking the user.
TRUSTED_APPS = [
    # "https://alice.github.io",
]
