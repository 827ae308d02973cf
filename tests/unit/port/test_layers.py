from secondsource.port.layers import layer_bytes, layer_ends
from tests.unit.port.texts import module

WEIGHT = "s8[32,128]{1,0:T(32,128)(4,1)}"


def parameter(name: str, argument: str, shape: str = WEIGHT) -> str:
    return f'%{name} = {shape} parameter(0), metadata={{op_name="{argument}"}}'


def test_a_layer_ends_at_the_product_with_its_last_weight() -> None:
    text = module(
        parameter("down0", "parameters.layers[0].down.values"),
        parameter("up0", "parameters.layers[0].gate_up.values"),
        parameter("down1", "parameters.layers[1].down.values"),
        "%start = (s8[32,128]{1,0:S(1)}, s8[32,128], u32[]) copy-start(%down1)",
        "%mixed = f32[8,128] fusion(%up0), kind=kOutput, calls=%f",
        "%first = f32[8,128] fusion(%mixed, %down0), kind=kOutput, calls=%f",
        "%done = s8[32,128]{1,0:S(1)} copy-done(%start)",
        "ROOT %second = f32[8,128] fusion(%first, %done), kind=kOutput, calls=%f",
    )
    assert layer_ends(text.entry) == {"first": 0, "second": 1}


def test_what_is_fetched_in_slices_is_followed() -> None:
    text = module(
        parameter("down0", "parameters.layers[0].down"),
        "%one = (s8[32,128], s8[16,128]{1,0:S(1)}, u32[]) slice-start(%down0)",
        "%two = s8[16,128]{1,0:S(1)} slice-done(%one)",
        '%joined = s8[32,128]{1,0:S(1)} custom-call(%two, %two), custom_call_target="ConcatBitcast"',
        "ROOT %end = f32[8,128] fusion(%joined), kind=kOutput, calls=%f",
    )
    assert layer_ends(text.entry) == {"end": 0}


def test_a_layer_holds_its_weights_and_cache_with_their_padding() -> None:
    text = module(
        parameter("down0", "parameters.layers[0].down.values"),
        parameter("keys0", "cache.keys[0].values", "s8[2,100]{1,0:T(8,128)(4,1)}"),
        parameter("down1", "parameters.layers[1].down.values"),
        parameter("table", "parameters.embedding.values"),
        "ROOT %end = f32[8,128] fusion(%down0), kind=kOutput, calls=%f",
    )
    assert layer_bytes(text.entry) == (32 * 128 + 8 * 128, 32 * 128)


def test_a_program_that_names_no_layers_tells_nothing() -> None:
    text = module("%a = f32[8] parameter(0)", "ROOT %b = f32[8] fusion(%a), kind=kLoop, calls=%f")
    assert layer_ends(text.entry) == {}
    assert layer_bytes(text.entry) == ()
