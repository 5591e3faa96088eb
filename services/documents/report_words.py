"""The words of a report's page in Kazakh, Russian and English."""

from typing import Final

from services.documents.language import Language
from services.documents.report import (
    ChangeKind,
    EvidenceSource,
    FoundFormat,
    Indication,
    TimeStampKind,
)

Words = tuple[str, str, str]
"""Kazakh, Russian, English."""
_ORDER: Final = (Language.KK, Language.RU, Language.EN)

LABELS: Final[dict[str, Words]] = {
    "title": ("Қолтаңбаны тексеру туралы есеп", "Отчёт о проверке подписи", "Signature validation report"),
    "document": ("Құжат (SHA-256)", "Документ (SHA-256)", "Document (SHA-256)"),
    "size": ("Көлемі, байт", "Размер, байт", "Size in bytes"),
    "validated": ("Тексерілген уақыты", "Проверено", "Validated at"),
    "signature": ("Қолтаңба", "Подпись", "Signature"),
    "of": ("/", "из", "of"),
    "signer": ("Қол қоюшы", "Подписант", "Signer"),
    "serial": ("Сертификаттың сериялық нөмірі", "Серийный номер сертификата", "Certificate serial number"),
    "format": ("Пішімі", "Формат", "Format"),
    "level": ("Деңгейі", "Уровень", "Level"),
    "claimed": ("Қол қоюшы көрсеткен уақыт", "Время со слов подписанта", "Time that the signer claims"),
    "stamped": ("Уақыт белгісі растаған уақыт", "Время, подтверждённое меткой", "Time that a time stamp proves"),
    "best": ("Тексеру жасалған сәт", "Момент, на который проверено", "Judged for the time"),
    "chain": ("Сертификаттар тізбегі", "Цепочка сертификатов", "Certificate chain"),
    "valid_from": ("Бастап жарамды", "Действителен с", "Valid from"),
    "valid_to": ("Дейін жарамды", "Действителен до", "Valid to"),
    "anchor": ("сенім білдірілген", "доверенный", "trust anchor"),
    "evidence": ("Қайтарып алынуы туралы мәліметтер", "Сведения об отзыве", "Evidence on revocation"),
    "source": ("Қайдан алынды", "Откуда", "From"),
    "issued": ("Шығарылған уақыты", "Выпущено", "Issued at"),
    "next": ("Келесі жаңарту", "Следующее обновление", "Next update"),
    "status": ("Күйі", "Статус", "Status"),
    "good": ("қайтарып алынбаған", "не отозван", "not revoked"),
    "revoked": ("қайтарып алынған:", "отозван:", "revoked at"),
    "stamps": ("Уақыт белгілері", "Метки времени", "Time stamps"),
    "kind": ("Түрі", "Вид", "Kind"),
    "time": ("Уақыты", "Время", "Time"),
    "authority": ("Кім берген", "Кем выдана", "By"),
    "valid": ("жарамды", "действительна", "valid"),
    "invalid": ("дәлел бола алмайды", "ничего не доказывает", "proves nothing"),
    "changes": ("Қол қойылғаннан кейінгі өзгерістер", "Что изменилось после подписания", "What changed after signing"),
    "unchanged": (
        "Қол қойылғаннан кейін өзгеріс болған жоқ.",
        "После подписания ничего не менялось.",
        "Nothing changed after signing.",
    ),
    "revision": ("Нұсқа", "Редакция", "Revision"),
    "none": ("жоқ", "нет", "none"),
    "footer": (
        "EN 319 102-1 тәртібімен тексерілді. Уақыт UTC бойынша.",
        "Проверено в порядке EN 319 102-1. Время указано по UTC.",
        "Validated in the manner of EN 319 102-1. Times are UTC.",
    ),
}

INDICATIONS: Final[dict[Indication, Words]] = {
    Indication.TOTAL_PASSED: ("Қолтаңба жарамды", "Подпись действительна", "The signature is valid"),
    Indication.TOTAL_FAILED: ("Қолтаңба жарамсыз", "Подпись недействительна", "The signature is not valid"),
    Indication.INDETERMINATE: (
        "Қолтаңбаның жарамдылығын анықтау мүмкін болмады",
        "Действительность подписи установить не удалось",
        "Whether the signature is valid cannot be told",
    ),
}

FORMATS: Final[dict[FoundFormat, Words]] = {
    FoundFormat.UNKNOWN: ("белгісіз", "не определён", "not recognised"),
    FoundFormat.CADES_ATTACHED: ("CAdES, құжат ішінде", "CAdES, документ внутри", "CAdES, content inside"),
    FoundFormat.CADES_DETACHED: ("CAdES, құжаттан бөлек", "CAdES, отдельно от документа", "CAdES, detached"),
    FoundFormat.CMS_ATTACHED: ("CMS, құжат ішінде", "CMS, документ внутри", "CMS, content inside"),
    FoundFormat.CMS_DETACHED: ("CMS, құжаттан бөлек", "CMS, отдельно от документа", "CMS, detached"),
    FoundFormat.PADES: ("PAdES", "PAdES", "PAdES"),
    FoundFormat.PDF_CMS: ("PDF ішіндегі CMS", "CMS в PDF", "CMS in a PDF"),
    FoundFormat.XADES_ENVELOPED: ("XAdES, құжат ішінде", "XAdES внутри документа", "XAdES, enveloped"),
    FoundFormat.XADES_ENVELOPING: ("XAdES, құжатты қамтиды", "XAdES вокруг документа", "XAdES, enveloping"),
    FoundFormat.XADES_DETACHED: ("XAdES, құжаттан бөлек", "XAdES отдельно от документа", "XAdES, detached"),
    FoundFormat.XMLDSIG: ("XML қолтаңбасы", "Подпись XML", "XML signature"),
}

SOURCES: Final[dict[EvidenceSource, Words]] = {
    EvidenceSource.GIVEN: ("куәландырушы орталық", "удостоверяющий центр", "the certification authority"),
    EvidenceSource.CMS: ("қолтаңбаның өзі", "сама подпись", "the signature itself"),
    EvidenceSource.DSS: ("құжаттың өзі (DSS)", "сам документ (DSS)", "the document itself (DSS)"),
    EvidenceSource.XADES: ("қолтаңбаның өзі", "сама подпись", "the signature itself"),
    EvidenceSource.FETCHED: (
        "сертификатта көрсетілген мекенжай",
        "адрес, указанный в сертификате",
        "the address in the certificate",
    ),
}

TIME_STAMPS: Final[dict[TimeStampKind, Words]] = {
    TimeStampKind.SIGNATURE: ("қолтаңбаға", "на подпись", "on the signature"),
    TimeStampKind.DOCUMENT: ("құжатқа", "на документ", "on the document"),
    TimeStampKind.ARCHIVE: ("мұрағаттық", "архивная", "archive"),
}

CHANGES: Final[dict[ChangeKind, Words]] = {
    ChangeKind.SIGNATURE_ADDED: (
        "тағы бір қолтаңба қосылды",
        "добавлена ещё одна подпись",
        "another signature was added",
    ),
    ChangeKind.DOCUMENT_TIME_STAMP_ADDED: (
        "құжатқа уақыт белгісі қосылды",
        "добавлена метка времени на документ",
        "a document time stamp was added",
    ),
    ChangeKind.VALIDATION_DATA_ADDED: (
        "сертификаттар мен қайтарып алу туралы мәліметтер қосылды",
        "добавлены сертификаты и сведения об отзыве",
        "certificates and evidence on revocation were added",
    ),
    ChangeKind.FIELDS_FILLED: (
        "нысанның өрістері толтырылды",
        "заполнены поля формы",
        "form fields were filled in",
    ),
    ChangeKind.NOT_ALLOWED: (
        "мазмұны қолтаңба рұқсат етпейтіндей өзгертілді",
        "содержание изменено так, как подпись не допускает",
        "the content was changed in a way that signatures do not allow",
    ),
    ChangeKind.BYTES_APPENDED: (
        "ешбір нұсқаға жатпайтын байттар қосылды",
        "дописаны байты, не принадлежащие ни одной редакции",
        "bytes that belong to no revision were appended",
    ),
}

SUB_INDICATIONS: Final[dict[str, tuple[str, str]]] = {
    "CERTIFICATE_CHAIN_GENERAL_FAILURE": (
        "сертификаттар тізбегі тексеруден өтпеді",
        "цепочка сертификатов не прошла проверку",
    ),
    "CHAIN_CONSTRAINTS_FAILURE": (
        "сертификат бұл мақсатқа арналмаған",
        "сертификат не предназначен для этой цели",
    ),
    "CRYPTO_CONSTRAINTS_FAILURE": (
        "қабылданбайтын алгоритм немесе кілт",
        "алгоритм или ключ не принимается",
    ),
    "CRYPTO_CONSTRAINTS_FAILURE_NO_POE": (
        "алгоритм енді қабылданбайды, ал бұрынғы уақыттың дәлелі жоқ",
        "алгоритм больше не принимается, а более раннее время не доказано",
    ),
    "FORMAT_FAILURE": (
        "қолтаңбаның құрылымы дұрыс емес немесе ол бүкіл құжатты қамтымайды",
        "подпись составлена неверно или охватывает не весь документ",
    ),
    "HASH_FAILURE": (
        "мазмұны қол қойылғаннан өзгеше",
        "содержание не то, которое было подписано",
    ),
    "NO_CERTIFICATE_CHAIN_FOUND": (
        "сертификат сенім білдірілген орталыққа апармайды",
        "сертификат не приводит к доверенному центру",
    ),
    "NO_SIGNING_CERTIFICATE_FOUND": (
        "қол қоюшының сертификаты жоқ немесе басқа",
        "сертификата подписанта нет или это не тот сертификат",
    ),
    "OUT_OF_BOUNDS_NO_POE": (
        "сертификат қазір жарамсыз, ал қол қою кезінде жарамды болғаны дәлелденбеген",
        "сертификат сейчас не действует, и не доказано, что действовал при подписании",
    ),
    "REVOKED_CA_NO_POE": (
        "орталықтың сертификаты қайтарып алынған",
        "сертификат центра отозван",
    ),
    "REVOKED_NO_POE": (
        "сертификат қайтарып алынған, ал бұған дейін қол қойылғаны дәлелденбеген",
        "сертификат отозван, и не доказано, что подписано до этого",
    ),
    "SIG_CONSTRAINTS_FAILURE": (
        "қол қойылғаннан кейін нысан өрістері толтырылған: қазір оқылатыны қол қойылғаннан өзгеше",
        "после подписания заполнены поля формы: сейчас читается не то, что было подписано",
    ),
    "SIG_CRYPTO_FAILURE": (
        "қолтаңбаның мәні сәйкес келмейді",
        "значение подписи не сходится",
    ),
    "SIGNED_DATA_NOT_FOUND": (
        "қол қойылған мазмұн берілмеген",
        "подписанное содержание не приложено",
    ),
    "TRY_LATER": (
        "қайтарып алу туралы жаңа мәліметтер болмады",
        "не было свежих сведений об отзыве",
    ),
}
"""Kazakh and Russian; the English is in the report."""


EXPLANATIONS: Final[dict[str, tuple[str, str]]] = {
    "the document was changed after it was signed, in a way that signatures do not allow": (
        "құжат қол қойылғаннан кейін қолтаңба рұқсат етпейтіндей өзгертілген",
        "документ изменён после подписания так, как подпись не допускает",
    ),
    "something was appended to the document after it was signed": (
        "қол қойылғаннан кейін құжатқа бір нәрсе қосылған",
        "после подписания к документу что-то дописано",
    ),
    "the signature does not cover the document as it was signed": (
        "қолтаңба қол қойылған құжатты толық қамтымайды",
        "подпись охватывает не весь подписанный документ",
    ),
    "the signature covers a part of the document only; the rest could be anybody's": (
        "қолтаңба құжаттың бір бөлігін ғана қамтиды, қалғаны кімдікі екені белгісіз",
        "подпись охватывает только часть документа, остальное могло быть добавлено кем угодно",
    ),
}
"""Where an explanation says more than its sub-indication."""


def label(name: str, language: Language) -> str:
    """A label of the page."""
    return chosen(LABELS[name], language)


def chosen(words: Words, language: Language) -> str:
    """The words in a language."""
    return words[_ORDER.index(language)]


def explained(sub_indication: str, explanation: str, language: Language) -> str:
    """Why a signature does not pass, in a language; in English where there are no other words."""
    translated = EXPLANATIONS.get(explanation) or SUB_INDICATIONS.get(sub_indication)
    if language is Language.EN or translated is None:
        return explanation
    return translated[_ORDER.index(language)]
