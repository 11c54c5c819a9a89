"""Short stop-word lists: function words that say nothing about a text. Rare ones may stay: IDF weighs them down.

English is Lucene's list; the others are the closed classes (articles, pronouns, prepositions, conjunctions,
auxiliaries) of each language.
"""

from __future__ import annotations

_LISTS = {
    "english": """a an and are as at be but by for if in into is it no not of on or such that the their then there
        these they this to was will with""",
    "german": """aber als am an auch auf aus bei bin bis das dass dem den der des die durch ein eine einem einen einer
        eines er es für hat ich ihr im in ist man mit nach nicht noch nur oder sein sich sie sind so und um uns vom von
        vor war was wie wir wird zu zum zur über""",
    "french": """au aux avec ce ces cet cette dans de des du elle en est et il ils je la le les leur lui mais ne nous
        on ou par pas pour qu que qui sa se ses son sont sur un une vous y à été être""",
    "spanish": """al como con de del el ella en entre era es esta este la las le lo los más no o para pero por que se
        ser si sin sobre son su sus también un una y ya""",
    "italian": """a al alla anche che chi come con da dal dei del della di e gli ha i il in io la le lo ma nel nella
        non o per più quello questa questo se si sono su suo tra un una è""",
    "portuguese": """a ao aos as com como da das de do dos e ela ele em entre era essa esse esta este foi mais mas na
        nas no nos não o os ou para pela pelo por que se sem seu ser sua também um uma à é""",
    "dutch": """aan als bij dan dat de der deze die dit door een en er het hij ik in is je maar met naar niet nog of om
        onder ook op over te tot uit van voor was wat werd wij worden ze zich zij zijn zou""",
    "swedish": """att av de den det du där efter eller en ett från för han har hon i inte jag kan med men när om på
        sig sin som så till under upp var vi är över""",
    "russian": """а без бы в во вот все да для до его ее если же за и из или к как который ли мы на не нет но о об он
        она они от по при с со так то только у уже что чтобы это я""",
}
STOP_WORDS: dict[str, frozenset[str]] = {language: frozenset(text.split()) for language, text in _LISTS.items()}
