"""Face match: do all keyframes of a live person show the person of the state's reference photo? Stores nothing."""
