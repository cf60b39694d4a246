"""Networks as users know them. Handed plain records, answers with Plans and findings; knows no engine and no state.db."""
