"""placeholder"""
def unavailable() -> str:
    return "not written"
